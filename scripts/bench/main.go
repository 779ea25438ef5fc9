// Bench compares copyurl with other tools. All tools use the same origin and the
// same S3 sink, which are separate processes of this program, and run in
// alternation. It prints a table and writes it to BENCH.md.
//
//	go run ./scripts/bench
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	// The origin, the sink, and two of the tools are subcommands of this program.
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "origin":
		err = serveOrigin(args[1:])
	case len(args) > 0 && args[0] == "sink":
		err = serveSink(args[1:])
	case len(args) > 0 && args[0] == "manager":
		err = runManager(ctx, args[1:])
	case len(args) > 0 && args[0] == "lambda":
		err = runLambda(ctx, args[1:])
	default:
		err = bench(ctx, args)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	repeat := flags.Int("repeat", 3, "number of runs; the table has their medians")
	only := flags.String("only", "", "run only the scenarios whose name contains this")
	out := flags.String("o", "BENCH.md", "the file to write")
	dir := flags.String("dir", ".local/bench", "where the tools are built")
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, "Usage: bench [flags]\n\nCompares copyurl with other tools, which it builds. The machine should\nbe idle otherwise.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := prepare(ctx, *dir)
	if err != nil {
		return err
	}
	defer b.close()
	var report strings.Builder
	compared := map[string]map[string]result{} // by scenario and tool
	for _, s := range scenarios() {
		if !strings.Contains(s.name, *only) {
			continue
		}
		medians, err := b.run(ctx, s, *repeat)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		text := table(s, medians)
		fmt.Print(text)
		report.WriteString(text)
		compared[s.name] = medians
	}
	head := fmt.Sprintf("# What a copy costs\n\n%s\n\n%s", b.header(*repeat), summary(compared))
	return os.WriteFile(*out, []byte(head+report.String()), 0o644)
}
