package main

const rcloneVersion = "v1.76.0"

// scenario is one combination of origin, sink, and tools.
type scenario struct {
	name, note string
	short      string // its column in the summary, "" for none
	size       int64
	query      string // of the origin's URL
	https      bool
	delay      string // of the sink's answers to PUT
	tools      []tool
	once       bool
}

// tool is a command for sh, with $URL, $BUCKET, $KEY and $DIR set.
type tool struct {
	name, needs, command string
	mayFail              bool
}

var (
	ours   = tool{name: "copyurl", command: `exec "$DIR/copyurl" -q "$URL" "s3://$BUCKET/$KEY" >/dev/null`}
	defs   = tool{name: "feature/s3/manager, defaults", command: `exec "$DIR/bench" manager "$URL" "s3://$BUCKET/$KEY"`}
	rclone = tool{name: "rclone copyurl " + rcloneVersion, needs: "rclone", command: `exec "$DIR/rclone" --config "" --s3-provider Other ` +
		`--s3-endpoint "$AWS_ENDPOINT_URL_S3" --s3-access-key-id "$AWS_ACCESS_KEY_ID" --s3-secret-access-key "$AWS_SECRET_ACCESS_KEY" ` +
		`--s3-no-check-bucket --s3-use-multipart-etag=false copyurl "$URL" ":s3:$BUCKET/$KEY"`}
	s5cmd   = tool{name: "curl | s5cmd pipe", needs: "s5cmd", command: `curl -sSf "$URL" | "$DIR/s5cmd" --endpoint-url "$AWS_ENDPOINT_URL_S3" pipe "s3://$BUCKET/$KEY"`}
	all     = []tool{ours, defs, rclone, s5cmd}
	fetch   = tool{name: "fetch, the Lambda function", command: `exec "$DIR/bench" lambda "$DIR/fetch" "$URL" "s3://$BUCKET/$KEY"`}
	large   = tool{name: "copyurl -part-size 525MiB", command: `exec "$DIR/copyurl" -q -part-size 525MiB "$URL" "s3://$BUCKET/$KEY" >/dev/null`}
	givesUp = tool{name: defs.name, command: defs.command, mayFail: true}
)

const gib = 1 << 30

func scenarios() []scenario {
	return []scenario{
		{name: "1 GiB at full speed over HTTP", short: "HTTP", size: gib, tools: all,
			note: "Without a checksum, ranges piped into UploadPart were measured at 0.56 CPU s/GB; the CRC-64 of every byte costs about 0.08."},
		{name: "1 GiB at full speed over HTTPS", short: "HTTPS", size: gib, https: true, tools: all},
		{name: "512 MiB from an origin limited to 50 MB/s per connection", short: "50 MB/s per connection", size: gib / 2, query: "?rate=50000000", tools: all},
		{name: "512 MiB with a Last-Modified only, 50 MB/s per connection", short: "50 MB/s, no ETag", size: gib / 2, query: "?rate=50000000&dated=1", tools: []tool{ours, defs},
			note: "The manager reads one stream."},
		{name: "1 GiB with 100 ms added to each PUT", short: "100 ms per PUT", size: gib, delay: "100ms", tools: all},
		{name: "1 GiB of unknown length", short: "unknown length", size: gib, query: "?unknown=1", tools: all},
		{name: "Memory: 64 MiB", size: gib / 16, tools: []tool{ours, fetch}},
		{name: "Memory: 1 GiB", size: gib, tools: []tool{ours, fetch}},
		{name: "Memory: 8 GiB", size: 8 * gib, tools: []tool{ours, large, fetch}, once: true,
			note: "A file of 5 TiB has parts of 525 MiB."},
		{name: "Memory: 8 GiB of unknown length", size: 8 * gib, query: "?unknown=1", tools: []tool{ours, fetch}, once: true,
			note: "A stream is uploaded with the manager, which holds four buffers of 16 MiB."},
		{name: "60 GiB of unknown length", size: 60 * gib, query: "?unknown=1", tools: []tool{ours, givesUp}, once: true,
			note: "The manager's defaults are limited to 10,000 parts of 5 MiB, 48.8 GiB."},
	}
}
