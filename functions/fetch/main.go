// Command fetch copies a file, or one segment of it, from the origin into S3.
package main

import (
	"context"

	"async-download/internal/copying"
	"async-download/internal/failure"
	"async-download/internal/start"
)

func main() {
	env := start.New()
	posts := env.Socket()
	w := env.Worker()
	w.Socket = posts
	env.Run(func(ctx context.Context, in copying.Input) (copying.Output, error) {
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
