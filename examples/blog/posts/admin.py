"""Where posts are written and comments are judged."""

from django.contrib import admin
from django.db.models import Count
from django.utils import timezone

from posts.models import Comment, Post, Tag

admin.site.site_header = "Tidewater"
admin.site.site_title = "Tidewater"


class CommentInline(admin.TabularInline):
    model = Comment
    extra = 0
    fields = ["name", "body", "approved", "created_at"]
    readonly_fields = ["created_at"]


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    list_display = ["title", "status", "published_at", "author", "comment_total"]
    list_filter = ["status", "tags", "published_at"]
    search_fields = ["title", "summary", "body"]
    prepopulated_fields = {"slug": ["title"]}
    filter_horizontal = ["tags"]
    date_hierarchy = "published_at"
    actions = ["publish", "withdraw"]
    inlines = [CommentInline]
    save_on_top = True

    def get_queryset(self, request):
        return (
            super().get_queryset(request).select_related("author").annotate(comment_total=Count("comments"))
        )

    def get_changeform_initial_data(self, request):
        return {"author": request.user.pk, "published_at": timezone.now()}

    @admin.display(description="Comments", ordering="comment_total")
    def comment_total(self, post):
        return post.comment_total

    @admin.action(description="Publish the posts selected")
    def publish(self, request, queryset):
        count = queryset.filter(status=Post.Status.DRAFT).update(status=Post.Status.PUBLISHED)
        self.message_user(request, f"{count} published.")

    @admin.action(description="Make drafts of the posts selected")
    def withdraw(self, request, queryset):
        count = queryset.filter(status=Post.Status.PUBLISHED).update(status=Post.Status.DRAFT)
        self.message_user(request, f"{count} withdrawn.")


@admin.register(Comment)
class CommentAdmin(admin.ModelAdmin):
    list_display = ["name", "post", "created_at", "approved"]
    list_editable = ["approved"]
    list_filter = ["approved", "created_at"]
    list_select_related = ["post"]
    search_fields = ["name", "email", "body"]
    actions = ["hide"]

    @admin.action(description="Hide the comments selected")
    def hide(self, request, queryset):
        self.message_user(request, f"{queryset.update(approved=False)} hidden.")


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    list_display = ["name", "slug"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}
