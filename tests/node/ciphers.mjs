// Ciphertexts as applications on Node write them, by Node's own `crypto`: what the formats are tested against.
//
//   node ciphers.mjs make   prints vectors: each ciphertext with its token and the format it is written in
//   node ciphers.mjs open   reads [{"shape": …, "text": …}] from stdin, prints the tokens that Node decrypts
//
// Keys, tokens and IVs are made up from the names, so `make` always prints the same. Each shape is read as
// strictly as it is written: a label, an encoding or a length that differs is an error.
import { createCipheriv, createDecipheriv, createHash, createHmac } from "node:crypto";

const digest = (text, name = "sha256") => createHash(name).update(text).digest();
const KEY = digest("a key that nobody uses");
const TAG_BYTES = 16;

// -- AES-256-GCM

function encrypt(token, iv) {
  const cipher = createCipheriv("aes-256-gcm", KEY, iv);
  const data = Buffer.concat([cipher.update(token, "utf8"), cipher.final()]);
  return { iv, tag: cipher.getAuthTag(), data };
}

function decrypt({ iv, tag, data }) {
  const decipher = createDecipheriv("aes-256-gcm", KEY, iv, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(data), decipher.final()]).toString("utf8");
}

function decode(text, encoding) {
  const raw = Buffer.from(text, encoding);
  if (raw.toString(encoding) !== text) throw new Error(`not ${encoding}: ${text}`);
  return raw;
}

// The parts of an order such as "iv:tag:data" or "iv+data+tag", in the texts that a separator parts.
function chunksOf(order) {
  const separator = order.includes(":") ? ":" : order.includes(".") ? "." : "";
  const texts = separator ? order.split(separator) : [order];
  return { separator, chunks: texts.map((text) => text.split("+")) };
}

function writeJoined({ order, label, encoding }, parts) {
  const { separator, chunks } = chunksOf(order);
  const texts = chunks.map((names) => Buffer.concat(names.map((name) => parts[name])).toString(encoding));
  return label + texts.join(separator);
}

function readJoined({ order, label, encoding, ivBytes }, text) {
  if (!text.startsWith(label)) throw new Error(`no label ${label}: ${text}`);
  const { separator, chunks } = chunksOf(order);
  const rest = text.slice(label.length);
  const texts = separator ? rest.split(separator) : [rest];
  if (texts.length !== chunks.length) throw new Error(`not ${order}: ${text}`);
  const parts = {};
  texts.forEach((one, index) => {
    const raw = decode(one, encoding);
    const names = chunks[index];
    const sizes = { iv: ivBytes, tag: TAG_BYTES };
    const known = names.reduce((sum, name) => sum + (sizes[name] ?? 0), 0);
    let at = 0;
    for (const name of names) {
      const end = at + (sizes[name] ?? raw.length - known);
      parts[name] = raw.subarray(at, end);
      at = end;
    }
    if (at !== raw.length) throw new Error(`odd lengths: ${text}`);
  });
  return parts;
}

function writeJson({ names, encoding, more }, parts) {
  const [iv, tag, data] = names;
  const members = { [iv]: parts.iv, [tag]: parts.tag, [data]: parts.data };
  for (const name of names) members[name] = members[name].toString(encoding);
  return JSON.stringify({ ...more, ...members });
}

function readJson({ names, encoding, more, ivBytes }, text) {
  const members = JSON.parse(text);
  if (JSON.stringify(members) !== text) throw new Error(`not as JSON.stringify writes it: ${text}`);
  if (Object.keys(members).join() !== [...Object.keys(more), ...names].join()) {
    throw new Error(`other members: ${text}`);
  }
  for (const name of Object.keys(more)) {
    if (members[name] !== more[name]) throw new Error(`${name} has changed: ${text}`);
  }
  const [iv, tag, data] = names.map((name) => decode(members[name], encoding));
  if (iv.length !== ivBytes) throw new Error(`an IV of ${iv.length} bytes: ${text}`);
  return { iv, tag, data };
}

// -- Fernet: https://github.com/fernet/spec/blob/master/Spec.md

const [SIGNING_KEY, ENCRYPTION_KEY] = [KEY.subarray(0, 16), KEY.subarray(16)];

function padded(raw) {
  return raw.toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

function writeFernet(token, iv) {
  const cipher = createCipheriv("aes-128-cbc", ENCRYPTION_KEY, iv);
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(1_700_000_000n);
  const data = Buffer.concat([cipher.update(token, "utf8"), cipher.final()]);
  const body = Buffer.concat([Buffer.from([0x80]), time, iv, data]);
  return padded(Buffer.concat([body, createHmac("sha256", SIGNING_KEY).update(body).digest()]));
}

function readFernet(text) {
  const raw = Buffer.from(text, "base64url");
  if (padded(raw) !== text) throw new Error(`not padded base64url: ${text}`);
  const [body, mac] = [raw.subarray(0, -32), raw.subarray(-32)];
  if (!createHmac("sha256", SIGNING_KEY).update(body).digest().equals(mac)) throw new Error("a wrong HMAC");
  const decipher = createDecipheriv("aes-128-cbc", ENCRYPTION_KEY, body.subarray(9, 25));
  return Buffer.concat([decipher.update(body.subarray(25)), decipher.final()]).toString("utf8");
}

// -- Shapes: how an application writes, as a value

const ENCODINGS = ["hex", "base64", "base64url"];
const LABELS = ["", "v1:", "enc:v1:"];
const IV_BYTES = [12, 16];
const ORDERS = [
  "iv:tag:data", "iv:data:tag", "iv.tag.data", "iv.data.tag",
  "iv:data+tag", "iv.data+tag", "iv+tag+data", "iv+data+tag",
];

function* shapes() {
  yield { kind: "fernet" };
  for (const order of ORDERS)
    for (const label of LABELS)
      for (const encoding of ENCODINGS)
        for (const ivBytes of IV_BYTES) yield { kind: "joined", order, label, encoding, ivBytes };
  for (const tag of ["tag", "authTag"])
    for (const data of ["content", "data", "ciphertext"])
      for (const encoding of ENCODINGS)
        for (const ivBytes of IV_BYTES)
          yield { kind: "json", names: ["iv", tag, data], encoding, ivBytes, more: {} };
  yield { kind: "json", names: ["iv", "tag", "data"], encoding: "hex", ivBytes: 12, more: { v: 1, alg: "GCM" } };
}

function write(shape, token, iv) {
  if (shape.kind === "fernet") return writeFernet(token, iv);
  return (shape.kind === "json" ? writeJson : writeJoined)(shape, encrypt(token, iv));
}

function read(shape, text) {
  if (shape.kind === "fernet") return readFernet(text);
  return decrypt((shape.kind === "json" ? readJson : readJoined)(shape, text));
}

// -- What nobody should have used: no tag proves the key or the text

function* refused(token) {
  const iv = digest("an IV of CBC").subarray(0, 16);
  const cbc = createCipheriv("aes-256-cbc", KEY, iv);
  const data = Buffer.concat([cbc.update(token, "utf8"), cbc.final()]);
  yield { name: "AES-256-CBC as iv:data in hex", looks: "AES-CBC", text: `${iv.toString("hex")}:${data.toString("hex")}` };
  yield { name: "AES-256-CBC as iv:data in base64", looks: "AES-CBC", text: `${iv.toString("base64")}:${data.toString("base64")}` };
  yield { name: "AES-256-CBC packed in base64", looks: "AES-CBC", text: Buffer.concat([iv, data]).toString("base64") };
  yield { name: "AES-256-CBC as JSON", looks: "AES-CBC", text: JSON.stringify({ iv: iv.toString("hex"), content: data.toString("hex") }) };
  const salt = digest("a salt").subarray(0, 8);
  let derived = Buffer.alloc(0);
  for (let block = Buffer.alloc(0); derived.length < 48; derived = Buffer.concat([derived, block])) {
    block = digest(Buffer.concat([block, Buffer.from("a passphrase"), salt]), "md5");
  }
  const cipher = createCipheriv("aes-256-cbc", derived.subarray(0, 32), derived.subarray(32));
  const salted = Buffer.concat([Buffer.from("Salted__"), salt, cipher.update(token, "utf8"), cipher.final()]);
  yield { name: "CryptoJS or OpenSSL with a passphrase", looks: "passphrase", text: salted.toString("base64") };
  yield { name: "plaintext", looks: "plaintext", text: token };
}

function make() {
  const vectors = [];
  for (const shape of shapes()) {
    const name = JSON.stringify(shape);
    const ivBytes = shape.ivBytes ?? 16;
    const token = `EAA-made-up-${digest(`token ${name}`).toString("base64url")}-xy`;
    vectors.push({ shape, token, text: write(shape, token, digest(`iv ${name}`).subarray(0, ivBytes)) });
  }
  return { key: KEY.toString("hex"), vectors, refused: [...refused("EAA-made-up-and-refused-1234567890")] };
}

async function stdin() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

switch (process.argv[2]) {
  case "make":
    console.log(JSON.stringify(make(), null, 1));
    break;
  case "open":
    console.log(JSON.stringify((await stdin()).map(({ shape, text }) => read(shape, text))));
    break;
  default:
    console.error("usage: node ciphers.mjs make|open");
    process.exit(2);
}
