"""The shell: each file owns one thing of the operating system and none knows another."""
