// Copyurl copies a file from a URL into S3: the fetch engine of this application
// on the command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"async-download/internal/failure"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // a second one ends it at once
		cancel(failure.New(failure.Cancelled, "interrupted"))
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
