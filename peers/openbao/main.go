// Command openbao is the OpenBao server, the fork of HashiCorp Vault, for tests: the
// real peer of the secret stores. It is OpenBao's own command line, and ends when its
// standard input does, so that it does not outlive the test that started it.
package main

import (
	"io"
	"os"

	"github.com/openbao/openbao/command"
)

func main() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	os.Exit(command.Run(os.Args[1:]))
}
