// Copyurl copies a file from a URL into S3: the fetch engine of this application
// on the command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"async-download/internal/failure"
)

// memory is where the collector begins to work harder. Ranges need a quarter of
// it; a stream holds four buffers of 16 MiB and would let the heap grow to twice
// that before it is collected.
const memory = 104 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
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
