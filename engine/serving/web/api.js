// Calls of the service. An error is an `ApiError` with a heading and a line in words.

const RETRIES = 3; // of a request that finds the queue full

export class ApiError extends Error {
  constructor(heading, line, status = 0) {
    super(line);
    this.heading = heading;
    this.status = status;
  }
}

const HEADINGS = {
  408: "The photo took too long to arrive",
  413: "This photo is too large",
  422: "This cannot be used",
  429: "Many are asking just now",
  503: "The service is not ready",
  504: "It took too long",
};

let key = sessionStorage.getItem("key");

/** Call the service; ask for a key where it wants one, and wait where its queue is full. */
export async function call(path, { signal, ...options } = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { ...options, signal, headers: headers(options.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The service cannot be reached", "Is it still running? Try again then.");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      await askForKey();
      continue;
    }
    if (response.status === 429 && attempt < RETRIES) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      continue;
    }
    throw await problemOf(response);
  }
}

/** The address of an item's photo: a copy of it where a key must be sent along. */
export async function photoAddress(id, index) {
  const path = `/items/${encodeURIComponent(id)}/photo?index=${encodeURIComponent(index)}`;
  if (!key) return path;
  return URL.createObjectURL(await (await call(path)).blob());
}

function headers(more) {
  return key ? { ...more, authorization: `Bearer ${key}` } : { ...more };
}

async function problemOf(response) {
  let line = response.statusText;
  try {
    line = (await response.json()).error;
  } catch {
    // An answer of something between here and the service: its status says enough.
  }
  return new ApiError(HEADINGS[response.status] ?? "That did not work", line, response.status);
}

function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key");
  input.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      key = input.value.trim();
      sessionStorage.setItem("key", key);
      done();
    }, { once: true });
  });
}
