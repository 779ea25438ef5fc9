// Package start starts the Lambda functions. It sets up logging, reads the environment,
// loads the AWS configuration and builds what several functions use, so that a main only
// lists what its function consists of.
package start

import (
	"context"
	"log/slog"
	"net/url"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/copying"
	"async-download/internal/event"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/socket"
	"async-download/internal/transfer"
)

// Environment is the environment of a function that is starting. Its methods read the
// variables that they name; errors are collected until Run.
type Environment struct {
	setting.Reader
	aws    aws.Config
	loaded bool
}

// New sets up logging and returns the environment.
func New() *Environment {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	return &Environment{Reader: setting.Reader{Lookup: os.LookupEnv}}
}

// Run answers events with handler, and doesn't return. If a variable is missing or wrong,
// it logs all of them in one line, and exits.
func (env *Environment) Run(handler any) {
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}

// config returns the AWS configuration, from the variables that Lambda itself sets.
func (env *Environment) config() aws.Config {
	if !env.loaded {
		var err error
		env.aws, err = config.LoadDefaultConfig(context.Background())
		env.Add("AWS", err)
		env.loaded = true
	}
	return env.aws
}

// StepFunctions returns a client of Step Functions.
func (env *Environment) StepFunctions() *sfn.Client { return sfn.NewFromConfig(env.config()) }

// Table reads CONNECTIONS_TABLE.
func (env *Environment) Table() *meeting.Table {
	return &meeting.Table{DynamoDB: dynamodb.NewFromConfig(env.config()), Tokens: env.StepFunctions(), Name: env.String("CONNECTIONS_TABLE")}
}

// Objects reads BUCKET, for a function that describes objects and signs no links.
func (env *Environment) Objects() *link.Signer {
	return link.NewSigner(env.config(), env.String("BUCKET"), "", 0)
}

// Links reads BUCKET, SIGNER_ROLE_ARN and LINK_EXPIRY_SECONDS.
func (env *Environment) Links() *link.Signer {
	return link.NewSigner(env.config(), env.String("BUCKET"), env.String("SIGNER_ROLE_ARN"), env.Seconds("LINK_EXPIRY_SECONDS"))
}

// Discard reads BUCKET and returns the function that removes an object and its open uploads.
func (env *Environment) Discard() func(ctx context.Context, key string) error {
	return (&transfer.Copier{S3: transfer.S3(env.config()), Bucket: env.String("BUCKET")}).Discard
}

// Socket reads WEBSOCKET_API.
func (env *Environment) Socket() *socket.Socket {
	endpoint := env.String("WEBSOCKET_API")
	return &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(env.config(), func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = &endpoint })}
}

// Events reads EVENT_BUS, which may be empty.
func (env *Environment) Events() *event.Bus {
	return event.New(env.config(), env.Optional("EVENT_BUS"))
}

// Metrics reads STACK_NAME.
func (env *Environment) Metrics() *metric.Recorder {
	return &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout}
}

// REST reads ALLOWED_WEB_ORIGINS.
func (env *Environment) REST() rest.API {
	return rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")}
}

// Forwarding reads FORWARDED_HEADERS and CALLER_HEADER, which may be empty, and API_AUTH.
func (env *Environment) Forwarding() rest.Forwarding {
	f := rest.Forwarding{Headers: env.List("FORWARDED_HEADERS"), Caller: env.Optional("CALLER_HEADER")}
	auth := env.Optional("API_AUTH")
	env.Add("FORWARDED_HEADERS", f.CheckHeaders(auth))
	env.Add("CALLER_HEADER", f.CheckCaller(auth))
	return f
}

// Local reads LOCAL_ENDPOINT: the local stack's URL, "" on AWS.
func (env *Environment) Local() string { return env.Optional("LOCAL_ENDPOINT") }

// Worker returns a worker without a Socket. The origin's secret is read only if no error
// was found before: read the function's other variables first.
func (env *Environment) Worker() copying.Worker {
	connections := int(env.Number("ORIGIN_CONNECTIONS"))
	w := copying.Worker{
		Table: env.Table(), Objects: env.Objects(), Metrics: env.Metrics(), Events: env.Events(),
		Copier: &transfer.Copier{
			S3: transfer.S3(env.config()), Bucket: env.String("BUCKET"), Concurrency: connections,
			MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES"),
		},
		Origin: &origin.Client{
			Base: env.Origin(), Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: env.Local() != "", Connections: connections,
			FirstByteTimeout: env.Seconds("ORIGIN_ANSWER_SECONDS"),
			RedirectHosts:    env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS"),
		},
	}
	if secret := env.Optional("ORIGIN_SECRET_ARN"); secret != "" && env.Err() == nil {
		var err error
		w.Origin.Header, err = originHeader(context.Background(), secretsmanager.NewFromConfig(env.config()), secret)
		env.Add("ORIGIN_SECRET_ARN", err)
	}
	return w
}

// Origin reads ORIGIN_URL.
func (env *Environment) Origin() *url.URL {
	text := env.String("ORIGIN_URL")
	if text == "" {
		return nil
	}
	base, err := origin.ParseBase(text)
	env.Add("ORIGIN_URL", err)
	return base
}
