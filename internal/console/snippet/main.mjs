const hub = "{hub}";
const { GRANTWAY_CLIENT_ID: id, GRANTWAY_CLIENT_SECRET: secret } = process.env;

async function post(path, authorization, body) {
  const answer = await fetch(hub + path, { method: "POST", headers: { Authorization: authorization }, body });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const basic = Buffer.from(`${id}:${secret}`).toString("base64");
const mine = await post("/oauth/token", `Basic ${basic}`, new URLSearchParams({ grant_type: "client_credentials" }));
const { header } = await post("/v1/credentials/{credential}/token", `Bearer ${mine.access_token}`);

const things = await fetch("https://api.example.com/v1/things", { headers: { [header.name]: header.value } });
console.log(await things.text());
