// What a page can try against a gateway. Each of these runs inside of the page, so it may use nothing
// from outside of itself; it gives what the page got to know.

/** Opens a WebSocket and connects with each secret in turn. `hello`s are how many were welcomed. */
export async function connects({ gateway, secrets, protocol, client }) {
  const one = (secret) => new Promise((resolve) => {
    const socket = new WebSocket(gateway.replace(/^http/, "ws"));
    const seen = { hello: false, said: [] };
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.event === "connect.challenge") {
        socket.send(JSON.stringify({ type: "req", id: "1", method: "connect", params: {
          minProtocol: protocol, maxProtocol: protocol, client: { version: "1", platform: "web", ...client },
          role: "operator", scopes: ["operator.admin"], auth: secret === null ? undefined : { token: secret },
        } }));
        return;
      }
      if (frame.ok) {
        seen.hello = true;
        socket.close();
      } else {
        seen.said.push(frame.error?.details?.code ?? frame.error?.message ?? frame.event);
      }
    };
    socket.onclose = ({ code }) => resolve({ ...seen, code });
  });
  const all = [];
  for (const secret of secrets) all.push(await one(secret));
  return all;
}

/** Asks for each path in every way that a page has; gives those whose answer it could read. */
export async function reads({ gateway, paths, secret }) {
  const read = [];
  for (const path of paths) {
    for (const headers of [{}, { Authorization: `Bearer ${secret}` }]) {
      for (const credentials of ["omit", "include"]) {
        try {
          const answer = await fetch(new URL(path, gateway), { headers, credentials });
          read.push({ path, status: answer.status, body: (await answer.text()).slice(0, 200) });
        } catch {
          // This is what should happen: the browser hands nothing over.
        }
      }
    }
  }
  return read;
}

/** Posts to each path: as `fetch` without asking first, as a beacon, and as a form into a frame. */
export async function posts({ gateway, paths, secret }) {
  const body = JSON.stringify({
    text: "from a stranger", message: "from a stranger", mode: "now", model: "openclaw", input: "from a stranger",
    messages: [{ role: "user", content: "from a stranger" }], tool: "sessions_list", token: secret,
  });
  for (const path of paths) {
    for (const query of ["", `?token=${secret}`]) {
      const url = new URL(path + query, gateway).href;
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
        await fetch(url, { method: "POST", mode: type.endsWith("json") ? "cors" : "no-cors", body,
          headers: { "Content-Type": type } }).catch(() => {});
      }
      await fetch(url, { method: "POST", body, headers: { Authorization: `Bearer ${secret}`,
        "Content-Type": "application/json" } }).catch(() => {});
      navigator.sendBeacon(url, body);
      await new Promise((resolve) => {
        const frame = Object.assign(document.createElement("iframe"), { name: `frame${Math.random()}` });
        document.body.append(frame);
        const form = Object.assign(document.createElement("form"), {
          method: "POST", action: url, target: frame.name, enctype: "text/plain",
        });
        // The usual trick: JSON whose last member swallows the form's own sign.
        const field = Object.assign(document.createElement("input"), { name: `${body.slice(0, -1)},"x":"`, value: '"}' });
        form.append(field);
        document.body.append(form);
        frame.onload = resolve;
        form.submit();
      });
    }
  }
}

/** Puts each path into a frame, a script and a picture; gives those that came to something. */
export async function embeds({ gateway, paths }) {
  const worked = [];
  for (const path of paths) {
    const url = new URL(path, gateway).href;
    for (const [tag, place] of [["script", "src"], ["img", "src"], ["iframe", "src"], ["object", "data"]]) {
      await new Promise((resolve) => {
        const element = document.createElement(tag);
        element.onload = () => {
          // A frame is also "loaded" when it was refused; then it holds the browser's own page, which is as
          // foreign to this one as the gateway's would be. What the gateway's page would do is say so.
          if (tag === "script" || tag === "img") worked.push(`${tag} ${path}`);
          resolve();
        };
        element.onerror = resolve;
        element[place] = url;
        document.body.append(element);
      });
    }
  }
  return worked;
}
