"""The Lambda Runtime API for one event, and a function under delve that asks it for work; see debug.sh.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

dlv, port, binary, event, environment = sys.argv[1:]
body = pathlib.Path(event).read_bytes()
answered = threading.Event()


class Runtime(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    handed_over = False

    def reply(self, status, content=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        if Runtime.handed_over:
            answered.wait()  # the function's next question; there is no second event
            time.sleep(3600)
        Runtime.handed_over = True
        self.reply(200, body, [
            ("Lambda-Runtime-Aws-Request-Id", "debug"), ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:debug"),
            ("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 3_600_000))])  # an hour, to look around

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        print(f"debug: {self.path.rpartition('/')[2]}: {text.decode()}", flush=True)
        self.reply(202)
        answered.set()

    def chunks(self):
        text = b""
        while size := int(self.rfile.readline(), 16):
            text += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return text

    def log_message(self, *_):
        pass


api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
api.daemon_threads = True
threading.Thread(target=api.serve_forever, daemon=True).start()
env = os.environ | json.loads(pathlib.Path(environment).read_text()) | {
    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}", "AWS_LAMBDA_LOG_FORMAT": "JSON",
    "AWS_LAMBDA_FUNCTION_NAME": pathlib.Path(binary).name, "_HANDLER": "bootstrap",
}
print(f"debug: waiting for VS Code or `dlv connect 127.0.0.1:{port}`; Ctrl-C ends it", flush=True)
debugger = subprocess.Popen([dlv, "exec", "--headless", "--api-version=2", "--accept-multiclient", f"--listen=127.0.0.1:{port}", binary], env=env)
try:
    sys.exit(debugger.wait())
except KeyboardInterrupt:
    debugger.terminate()
    debugger.wait()
