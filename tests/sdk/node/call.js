// Calls the API with the official Node SDK: one JSON object a line on standard input, one a line as answer.
const readline = require("node:readline");
const { live, vod } = require("tencentcloud-sdk-nodejs");

const settings = JSON.parse(process.argv[2]);
const options = {
  credential: { secretId: settings.secretId, secretKey: settings.secretKey },
  region: "ap-guangzhou",
  profile: {
    signMethod: settings.signMethod,
    httpProfile: { reqMethod: settings.reqMethod, protocol: "http://", endpoint: settings.endpoint, reqTimeout: 60 },
  },
};
const clients = { live: new live.v20180801.Client(options), vod: new vod.v20180717.Client(options) };

async function outcome({ family, action, parameters }) {
  const client = clients[family];
  try {
    return { answer: typeof client[action] === "function" ? await client[action](parameters) : await client.request(action, parameters) };
  } catch (error) {
    return { code: String(error.code || error.name), message: String(error.message), requestId: error.requestId };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await outcome(JSON.parse(line))) + "\n");
  }
})();
