"""The app on AWS: make deploy, make destroy, scripts/smoke.sh. Run by the Python of .local/deploy, which has the SAM CLI."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))

import botocore.exceptions

import deploy
import destroy
import smoke
from process import Failed


def main(command):
    os.chdir(HERE.parent.parent)
    try:
        {"deploy": deploy, "destroy": destroy, "smoke": smoke}[command].main()
    except (Failed, botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        for line in str(error).splitlines():
            print(f"{command}: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1])
