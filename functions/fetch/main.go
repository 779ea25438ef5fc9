// Command fetch copies a file, or one segment of it, from the origin into S3.
package main

import (
	"context"

	"async-download/internal/copying"
	"async-download/internal/failure"
	"async-download/internal/start"
	"async-download/internal/transfer"
)

// input is the file of an execution or, with a plan, one segment of it.
type input struct {
	ExecutionARN string           `json:"executionArn"`
	Plan         *transfer.Plan   `json:"plan"`
	Segment      transfer.Segment `json:"segment"`
}

func main() {
	env := start.New()
	posts := env.Socket()
	w := env.Worker()
	w.Socket = posts
	env.Run(func(ctx context.Context, in input) (copying.Output, error) {
		var out copying.Output
		var err error
		if in.Plan == nil {
			out, err = w.Copy(ctx, in.ExecutionARN)
		} else {
			out, err = w.CopySegment(ctx, in.ExecutionARN, *in.Plan, in.Segment)
		}
		return out, failure.ToStepFunctions(err)
	})
}
