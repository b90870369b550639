// Speaks to the server: questions and orders in, objects out; what fails is an Error with a text for people,
// and with `problems` where there are several.

/** The answer to a question, by its path. */
export async function getJson(path) {
  return answered(path, {}, "The dashboard did not answer.");
}

/** A change or an order, by its path. */
export async function post(path, body) {
  const headers = { "X-Djsup": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const request = { method: "POST", headers, body: body === undefined ? undefined : JSON.stringify(body) };
  return answered(path, request, "The dashboard did not answer. What was asked may still happen.");
}

async function answered(path, request, silence) {
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error(silence);
  }
  if (answer.status === 401) {
    location.assign(`login${location.hash}`);
    throw new Error("The session has ended.");
  }
  if (answer.status === 204) return null;
  const result = await answer.json().catch(() => null);
  if (!answer.ok || !result) {
    const error = new Error(result?.error ?? `The dashboard answered ${answer.status}.`);
    error.problems = result?.problems ?? [];
    throw error;
  }
  return result;
}
