"""Which AWS account the commands work in."""

import os

import boto3
import botocore.config
import botocore.exceptions

from process import Failed, say

# Nobody waits for minutes to learn that there is no network.
QUICK = botocore.config.Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})
NO_CREDENTIALS = "no credentials: run aws configure or aws sso login, or set AWS_PROFILE"


def open_session(region=None):
    """Returns a session in region, or in the environment's, and prints account and region.

    Raises Failed if there are no credentials, or none that AWS accepts.
    """
    try:
        session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))  # boto3 reads AWS_DEFAULT_REGION only
        if not session.region_name:
            raise Failed("no region: set AWS_REGION")
        caller = session.client("sts", config=QUICK).get_caller_identity()
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.TokenRetrievalError, botocore.exceptions.SSOError) as error:
        raise Failed(f"{NO_CREDENTIALS} ({error})") from None
    except botocore.exceptions.ClientError as error:
        raise Failed(f"AWS refuses the credentials: {error.response['Error']['Code']}: {error.response['Error']['Message']}") from None
    except botocore.exceptions.BotoCoreError as error:
        raise Failed(str(error)) from None
    endpoint = session.client("sts").meta.endpoint_url
    elsewhere = "" if ".amazonaws.com" in endpoint else f", at {endpoint}, which is not AWS"
    say(f"account {caller['Account']}, region {session.region_name}, as {caller['Arn']}{elsewhere}")
    return session
