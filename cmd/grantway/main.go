// Command grantway runs a Grantway hub and works with one from the command line.
//
// Every command but serve, db and key is a client of a running hub and goes through the
// public package grantway. Each noun of the command line is one file; root.go has what they
// share, output.go writes all results and errors.go all errors.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit code of the process.
func run(args []string, in *os.File, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	c := &cli{in: in, out: out, errs: errs, unhandle: stop}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	c.usage = cmd.UseLine()
	return c.exit(err)
}
