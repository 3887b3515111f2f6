// A gRPC server in Node: `node server.js` prints its port, and ends with its standard input.
"use strict";
const grpc = require("@grpc/grpc-js");

const same = (bytes) => bytes;
const kind = (name, requestStream, responseStream) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

function trailing() {
  const made = new grpc.Metadata();
  made.set("trailing-by", "node");
  made.set("trailing-bin", Buffer.from([...Array(256).keys()]));
  return made;
}

const wish = (call, name) => Number(call.metadata.get(`wish-${name}`)[0] || 0);

const server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
server.addService(
  { Unary: kind("Unary", false, false), Down: kind("Down", false, true), Up: kind("Up", true, false), Both: kind("Both", true, true) },
  {
    Unary(call, answer) {
      if (wish(call, "headers_first")) call.sendMetadata(new grpc.Metadata());
      const status = wish(call, "status");
      const told = () =>
        status ? answer({ code: status, details: "none €", metadata: trailing() }) : answer(null, call.request, trailing());
      setTimeout(told, wish(call, "delay_ms"));
    },
    Down(call) {
      for (let number = 0; number < wish(call, "count"); number++) call.write(call.request);
      call.end(trailing());
    },
    Up(call, answer) {
      let count = 0;
      let bytes = 0;
      call.on("data", (message) => {
        count += 1;
        bytes += message.length;
      });
      call.on("end", () => answer(null, Buffer.from(`${count} ${bytes}`), trailing()));
    },
    Both(call) {
      call.on("data", (message) => call.write(message));
      call.on("end", () => call.end(trailing()));
    },
  },
);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.stdin.on("end", () => process.exit(0)).resume();
