// A link from elsewhere arrives without the cookie (SameSite=Strict); asked from here it is sent.
const answer = await fetch("api/session");
if (answer.ok && (await answer.json()).logged_in) {
  location.replace(`./${location.hash}`);
}
