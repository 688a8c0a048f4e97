// Writes keys and JWTs that are made by the npm package jose: node jwt.mjs FOLDER. The tokens are printed as JSON, by name, each
// with its key file.
import { createHmac, generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";

const folder = process.argv[2];
const now = Math.floor(Date.now() / 1000);
const grant = { subscribe: ["users/{sub}/#"], publish: ["users/{sub}/#"] };

/** Returns the claims of a token that the hub accepts, with changes. */
const claims = (changes) => ({ sub: "anna", exp: now + 3600, iat: now, iss: "https://issuer.test", aud: ["other", "hub"], watchbox: grant, ...changes });
const sign = (alg, key, payload = claims(), header = {}) => new SignJWT(payload).setProtectedHeader({ alg, ...header }).sign(key);
const encode = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
/** Signs with HMAC by hand, where jose refuses to. */
const hmac = (header, payload, secret) => {
  const input = encode(header) + "." + encode(payload);
  return input + "." + createHmac("sha256", secret).update(input).digest("base64url");
};

const accepted = {};
const refused = {};
const set = [];
for (const alg of ["RS256", "PS256", "ES256", "EdDSA"]) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const pem = await exportSPKI(publicKey);
  writeFileSync(`${folder}/${alg}.pem`, pem);
  set.push({ ...await exportJWK(publicKey), kid: alg, use: "sig", alg });
  accepted[`${alg} by PEM`] = { key: `${alg}.pem`, token: await sign(alg, privateKey) };
  accepted[`${alg} by JWKS`] = { set: "jwks.json", token: await sign(alg, privateKey, claims(), { kid: alg }) };
  accepted[`${alg} by JWKS, no kid`] = { set: "jwks.json", token: await sign(alg, privateKey) };
  refused[`${alg} of another kid`] = { set: "jwks.json", token: await sign(alg, privateKey, claims(), { kid: alg === "EdDSA" ? "ES256" : "EdDSA" }) };
  refused[`${alg} of an unknown kid`] = { set: "jwks.json", token: await sign(alg, privateKey, claims(), { kid: "unknown" }) };
  const { publicKey: foreign, privateKey: forged } = await generateKeyPair(alg, { extractable: true });
  refused[`${alg} with another key`] = { key: `${alg}.pem`, token: await sign(alg, forged) };
  refused[`${alg} with its own jwk`] = { key: `${alg}.pem`, token: await sign(alg, forged, claims(), { jwk: await exportJWK(foreign) }) };
  refused[`HS256 with the public key of ${alg} as the secret`] = { key: `${alg}.pem`, token: hmac({ alg: "HS256" }, claims(), pem) };
  refused[`HS256 with the public key of ${alg} and its kid`] = { set: "jwks.json", token: hmac({ alg: "HS256", kid: alg }, claims(), pem) };
}
writeFileSync(`${folder}/jwks.json`, JSON.stringify({ keys: set }));

const secret = "a secret of more than thirty-two bytes";
writeFileSync(`${folder}/secret`, secret + "\n");
const bytes = new TextEncoder().encode(secret);
accepted["HS256"] = { key: "secret", token: await sign("HS256", bytes) };
accepted["nbf in 30 s"] = { key: "secret", token: await sign("HS256", bytes, claims({ nbf: now + 30 })) };
accepted["iat in 30 s"] = { key: "secret", token: await sign("HS256", bytes, claims({ iat: now + 30 })) };
accepted["typ at+jwt"] = { key: "secret", token: await sign("HS256", bytes, claims(), { typ: "at+jwt" }) };
refused["HS256 with the newline of its file"] = { key: "secret", token: hmac({ alg: "HS256" }, claims(), secret + "\n") };
refused["no exp"] = { key: "secret", token: await sign("HS256", bytes, claims({ exp: undefined })) };
refused["expired"] = { key: "secret", code: "token-expired", token: await sign("HS256", bytes, claims({ exp: now - 1 })) };
refused["expired, forged"] = { key: "secret", token: hmac({ alg: "HS256" }, claims({ exp: now - 1 }), "x") };
refused["nbf in 2 min"] = { key: "secret", token: await sign("HS256", bytes, claims({ nbf: now + 120 })) };
refused["iat in 2 min"] = { key: "secret", token: await sign("HS256", bytes, claims({ iat: now + 120 })) };
refused["another issuer"] = { key: "secret", token: await sign("HS256", bytes, claims({ iss: "https://evil.test" })) };
refused["no issuer"] = { key: "secret", token: await sign("HS256", bytes, claims({ iss: undefined })) };
refused["another audience"] = { key: "secret", token: await sign("HS256", bytes, claims({ aud: "other" })) };
refused["no audience"] = { key: "secret", token: await sign("HS256", bytes, claims({ aud: undefined })) };
refused["HS384"] = { key: "secret", token: await sign("HS384", bytes) };
refused["HS512"] = { key: "secret", token: await sign("HS512", bytes) };
refused["RS512"] = { key: "RS256.pem", token: await sign("RS512", (await generateKeyPair("RS512")).privateKey) };
refused["alg none"] = { key: "secret", token: new UnsecuredJWT(claims()).encode() };
for (const alg of ["none", "None", "nOnE", ""]) refused[`alg ${JSON.stringify(alg)} with a signature`] = { key: "secret", token: hmac({ alg }, claims(), secret) };
refused["no alg"] = { key: "secret", token: hmac({}, claims(), secret) };
refused["crit"] = { key: "secret", token: hmac({ alg: "HS256", crit: ["exp"] }, claims(), secret) };
refused["crit b64"] = { key: "secret", token: hmac({ alg: "HS256", b64: false, crit: ["b64"] }, claims(), secret) };
refused["empty crit"] = { key: "secret", token: hmac({ alg: "HS256", crit: [] }, claims(), secret) };
refused["JKU"] = { key: "RS256.pem", token: await sign("RS256", (await generateKeyPair("RS256")).privateKey, claims(), { jku: "https://evil.test/keys" }) };
refused["x5u"] = { key: "RS256.pem", token: await sign("RS256", (await generateKeyPair("RS256")).privateKey, claims(), { x5u: "https://evil.test/cert" }) };
refused["an empty signature"] = { key: "secret", token: accepted["HS256"].token.replace(/[^.]*$/, "") };
refused["no signature"] = { key: "secret", token: accepted["HS256"].token.replace(/\.[^.]*$/, "") };
refused["other claims under the signature"] = { key: "secret", token: accepted["HS256"].token.replace(/\.[^.]*\./, "." + encode(claims({ sub: "root" })) + ".") };
refused["an array as claims"] = { key: "secret", token: hmac({ alg: "HS256" }, [claims()], secret) };
refused["RS256 by a key of PS256"] = { set: "jwks.json", token: await sign("RS256", (await generateKeyPair("RS256")).privateKey, claims(), { kid: "PS256" }) };

// Keys that the hub refuses at its start.
const spki = { publicKeyEncoding: { type: "spki", format: "pem" }, privateKeyEncoding: { type: "pkcs8", format: "pem" } };
const weak = {
  "rsa1024.pem": generateKeyPairSync("rsa", { modulusLength: 1024, ...spki }).publicKey,
  "p384.pem": generateKeyPairSync("ec", { namedCurve: "P-384", ...spki }).publicKey,
  "x25519.pem": generateKeyPairSync("x25519", spki).publicKey,
  "private.pem": generateKeyPairSync("ed25519", spki).privateKey,
  "short": secret.slice(0, 31) + "  \n",
  "empty": "",
};
for (const [name, content] of Object.entries(weak)) writeFileSync(`${folder}/${name}`, content);
writeFileSync(`${folder}/symmetric.json`, JSON.stringify({ keys: [{ kty: "oct", k: encode(secret), alg: "HS256" }] }));

console.log(JSON.stringify({ accepted, refused, weak: Object.keys(weak) }));
