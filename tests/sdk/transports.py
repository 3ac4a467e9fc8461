"""The official SDKs, each with each signature and method, behind one call."""

import json
import os
import shutil
import subprocess
import warnings

from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.live.v20180801 import live_client, models as live_models
from tencentcloud.vod.v20180717 import models as vod_models, vod_client

from appliance import REPOSITORY

NODE_MODULES = os.environ.get("CAPSTAN_NODE_MODULES", str(REPOSITORY / "target" / "test-node" / "node_modules"))
SIGNATURES = ("TC3-HMAC-SHA256", "HmacSHA256", "HmacSHA1")
TRANSPORTS = [f"{sdk}-{signature}-{method}" for sdk in ("python", "node") for signature in SIGNATURES for method in ("POST", "GET")]
TRANSPORTS.append("python-unsigned_payload-POST")


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Python:
    """`raw` calls leave the SDK's models out, so that they can say what no model holds."""

    def __init__(self, endpoint, secret_id, secret_key, signature, method):
        key = credential.Credential(secret_id, secret_key)
        http = HttpProfile(protocol="http", endpoint=endpoint, reqMethod=method, reqTimeout=60)
        unsigned = signature == "unsigned_payload"
        profile = ClientProfile(signMethod="TC3-HMAC-SHA256" if unsigned else signature, httpProfile=http)
        profile.unsignedPayload = unsigned
        self.clients = {
            "live": (live_client.LiveClient(key, "ap-guangzhou", profile), live_models),
            "vod": (vod_client.VodClient(key, "ap-guangzhou", profile), vod_models),
        }

    def call(self, family, action, parameters, raw=False):
        """The answer's fields as they came, without RequestId; [`Refused`] for an error."""
        client, models = self.clients[family]
        try:
            if raw or not hasattr(client, action):
                answer = json.loads(client.call(action, parameters))["Response"]
            else:
                answer = self._by_model(client, models, action, parameters)
        except TencentCloudSDKException as error:
            if not error.requestId:
                raise
            assert len(error.requestId) == 36, error
            raise Refused(error.code, error.message) from None
        assert len(answer.pop("RequestId")) == 36
        return answer

    @staticmethod
    def _by_model(client, models, action, parameters):
        request = getattr(models, f"{action}Request")()
        bodies, call = [], client.call

        def keep(*arguments, **named):
            bodies.append(call(*arguments, **named))
            return bodies[-1]

        client.call = keep
        try:
            with warnings.catch_warnings():
                # The SDK warns of fields that its models do not have.
                warnings.simplefilter("error")
                # Which its newer requests have and its answers have not.
                warnings.filterwarnings("ignore", message="RecordStatusNotifyUrl")
                request.from_json_string(json.dumps(parameters))
                reply = getattr(client, action)(request)
        finally:
            client.call = call
        assert reply.RequestId
        return json.loads(bodies[-1])["Response"]

    def close(self):
        pass


class Node:
    def __init__(self, endpoint, secret_id, secret_key, signature, method):
        node = shutil.which("node") or shutil.which("nodejs")
        assert node, "Node is not installed"
        settings = {"endpoint": endpoint, "secretId": secret_id, "secretKey": secret_key, "signMethod": signature, "reqMethod": method}
        self.process = subprocess.Popen(
            [node, str(REPOSITORY / "tests" / "sdk" / "node" / "call.js"), json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "NODE_PATH": NODE_MODULES},
        )

    def call(self, family, action, parameters, raw=False):
        self.process.stdin.write(json.dumps({"family": family, "action": action, "parameters": parameters}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the Node process ended with {self.process.wait(10)}"
        outcome = json.loads(line)
        if "code" in outcome:
            assert outcome.get("requestId"), outcome
            raise Refused(outcome["code"], outcome["message"])
        answer = outcome["answer"]
        assert len(answer.pop("RequestId")) == 36
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def transport(name, endpoint, secret_id, secret_key):
    sdk, rest = name.split("-", 1)
    signature, method = rest.rsplit("-", 1)
    return {"python": Python, "node": Node}[sdk](endpoint, secret_id, secret_key, signature, method)
