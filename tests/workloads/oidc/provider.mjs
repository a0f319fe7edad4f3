// A real OpenID Connect provider for the tests. Arguments: the redirect URI of the client, and the accounts as JSON: claims by
// name. Every password is accepted. Prints its issuer once it listens.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [redirectUri, accounts] = [process.argv[2], JSON.parse(process.argv[3])];
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "queuedeck", client_secret: "the secret of the client", redirect_uris: [redirectUri] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["groups"] },
    cookies: { keys: ["a key of the tests"] },
    findAccount: (_, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
    pkce: { required: () => true },
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
