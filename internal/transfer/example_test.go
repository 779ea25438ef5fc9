package transfer_test

import (
	"context"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/config"

	"async-download/internal/origin"
	"async-download/internal/transfer"
)

// All runs of a copy in one process. In the workflow, each is one of a Lambda.
func ExampleJob() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		panic(err)
	}
	copier := &transfer.Copier{S3: transfer.S3(cfg), Bucket: "bucket", SegmentBytes: transfer.SegmentBytes}
	base := &url.URL{Scheme: "https", Host: "files.example"}
	client := &origin.Client{Base: base}
	newJob := func() *transfer.Job {
		request := &origin.Request{URL: base.JoinPath("file.bin")}
		return &transfer.Job{Copier: copier, Source: transfer.Source{Client: client, Request: request}, Key: "key"}
	}

	outcome, err := newJob().Start(ctx)
	for err == nil && outcome.Work != nil {
		for _, segment := range outcome.Work.Segments { // in any order, or in parallel
			_ = newJob().CopySegment(ctx, outcome.Work.Plan, segment) // Finish finds what is missing
		}
		outcome, err = newJob().Finish(ctx, *outcome.Work)
	}
	if err != nil { // or wait, and run it again
		_ = copier.Abort(ctx, "key")
		panic(err)
	}
	fmt.Println(outcome.Result.Bytes, "bytes")
}
