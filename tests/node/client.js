// A gRPC app in Node: `node client.js PORT` makes one call of each kind and prints as JSON what came back.
"use strict";
const grpc = require("@grpc/grpc-js");

const options = {
  "grpc.enable_retries": 0,
  "grpc.enable_http_proxy": 0,
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
};
const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure(), options);
const same = (bytes) => bytes;
const METHODS = { Unary: "/test.Echo/Unary", Down: "/test.Echo/Down", Up: "/test.Echo/Up", Both: "/test.Echo/Both" };

function metadata(pairs) {
  const made = new grpc.Metadata();
  for (const [name, value] of Object.entries(pairs)) made.set(name, value);
  return made;
}

function unary(message, pairs = {}, seconds = 20, started = () => {}) {
  return new Promise((resolve) => {
    const limits = { deadline: Date.now() + seconds * 1000 };
    const found = {};
    const call = client.makeUnaryRequest(METHODS.Unary, same, same, message, metadata(pairs), limits, (error, answer) => {
      found.code = error ? error.code : 0;
      found.details = error ? error.details : "";
      found.answer = answer;
      if (error) found.trailers = error.metadata;
    });
    call.on("metadata", (first) => (found.first = first));
    call.on("status", (status) => {
      found.trailers = status.metadata;
      setImmediate(() => resolve(found));
    });
    started(call);
  });
}

function heard(call) {
  return new Promise((resolve) => {
    const found = { messages: [], code: 0 };
    call.on("data", (message) => found.messages.push(message));
    call.on("error", (error) => (found.code = error.code));
    call.on("status", () => setImmediate(() => resolve(found)));
  });
}

function up(messages) {
  return new Promise((resolve, reject) => {
    const call = client.makeClientStreamRequest(METHODS.Up, same, same, (error, answer) =>
      error ? reject(error) : resolve(answer.toString()),
    );
    for (const message of messages) call.write(message);
    call.end();
  });
}

async function main() {
  const said = {};
  const hello = await unary(Buffer.from("hello"), { "x-every-bin": Buffer.from([0, 255, 10, 13]) });
  said.unary = [hello.answer.toString(), hello.code, hello.trailers.get("trailing-by")[0]];
  said.binary = [...hello.first.get("x-every-bin")[0]];
  said.large = (await unary(Buffer.alloc(3000000, 7))).answer.equals(Buffer.alloc(3000000, 7));
  const many = await Promise.all([...Array(1000).keys()].map((number) => unary(Buffer.from(String(number)))));
  said.many = many.filter((one, number) => one.code === 0 && one.answer.toString() === String(number)).length;
  const down = client.makeServerStreamRequest(METHODS.Down, same, same, Buffer.alloc(1000), metadata({ "wish-count": "200" }));
  said.down = (await heard(down)).messages.length;
  said.up = await up(Array(300).fill(Buffer.alloc(10000)));
  const both = client.makeBidiStreamRequest(METHODS.Both, same, same);
  const back = heard(both);
  for (let number = 0; number < 50; number++) both.write(Buffer.from(String(number)));
  both.end();
  said.both = (await back).messages.map(String).join();
  said.errors = [];
  for (const first of ["0", "1"]) {
    const pairs = { "wish-status": "5", "wish-headers_first": first, "wish-details-bin": Buffer.from("none €") };
    const error = await unary(Buffer.alloc(0), pairs);
    said.errors.push([error.code, error.details, error.trailers.get("trailing-by")[0]]);
  }
  const late = await unary(Buffer.alloc(0), { "wish-delay_ms": "10000", "x-id": "js-late" }, 0.3);
  said.late = late.code;
  const cancelled = await unary(Buffer.alloc(0), { "wish-delay_ms": "10000", "x-id": "js-cancelled" }, 20, (call) =>
    setTimeout(() => call.cancel(), 300),
  );
  said.cancelled = cancelled.code;
  client.close();
  console.log(JSON.stringify(said));
}

main();
