package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/grantway/grantway"
)

// maxSecret bounds what is read of standard input: more than any input takes.
const maxSecret = 1 << 20

// maxTyped is the longest line that a prompt takes: terminals cut longer ones silently.
const maxTyped = 4095

// beginPEM begins a key in PEM (RFC 7468 section 2).
const beginPEM = "-----BEGIN "

// readSecret reads a secret: from a prompt without echo if standard input is a terminal,
// else all of standard input but the line break at its end.
func (c *cli) readSecret(title string) (grantway.Secret, error) {
	if terminal(c.in) {
		secret, err := c.typed(title+": ", false)
		if err == nil && secret == "" {
			err = usagef("%s: nothing was entered", title)
		}
		return grantway.Secret(secret), err
	}
	text, err := secretText(title, "standard input", c.in)
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if err == nil && len(text) == 0 {
		err = usagef("%s: standard input is empty", title)
	}
	return grantway.Secret(text), err
}

// secretFile reads a secret from a file: all of it if it is PEM, else without the line breaks
// at its end.
func secretFile(title, path string) (grantway.Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", title, err)
	}
	defer file.Close()
	text, err := secretText(title, path, file)
	if !bytes.HasPrefix(text, []byte(beginPEM)) {
		text = bytes.TrimRight(text, "\r\n")
	}
	if err == nil && len(text) == 0 {
		err = usagef("%s: %s is empty", title, path)
	}
	return grantway.Secret(text), err
}

// secretText reads all of in, which errors call from.
func secretText(title, from string, in io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s: %w", title, from, err)
	case len(text) > maxSecret:
		return nil, usagef("%s: %s holds more than 1 MiB", title, from)
	case !utf8.Valid(text): // JSON would replace what is wrong, and so change the secret
		return nil, usagef("%s: %s is not UTF-8 text", title, from)
	}
	return text, nil
}

// typed asks for a line on the terminal; a key in PEM is read to its last line. The
// terminal is in raw mode from first to last, so that nothing pasted is ever echoed.
func (c *cli) typed(prompt string, echo bool) (string, error) {
	fd := int(c.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("prompt: %w", err)
	}
	defer term.Restore(fd, before)
	if c.prompt == nil { // one for all prompts: it reads ahead
		c.prompt = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{c.in, c.errs}, "")
	}
	read := c.prompt.ReadPassword
	if echo {
		read = func(prompt string) (string, error) {
			c.prompt.SetPrompt(prompt)
			return c.prompt.ReadLine()
		}
	}
	var lines []string
	for {
		line, err := read(prompt)
		if errors.Is(err, io.EOF) { // also for Ctrl-C
			return "", errors.New("interrupted")
		}
		if err != nil {
			return "", fmt.Errorf("prompt: %w", err)
		}
		if len(line) >= maxTyped {
			return "", usagef("that is too long for a prompt; put it into a file and give it on standard input")
		}
		lines = append(lines, line)
		if !strings.HasPrefix(lines[0], beginPEM) || strings.HasPrefix(line, "-----END ") {
			break
		}
		prompt = ""
	}
	return strings.Join(lines, "\n"), nil
}

// confirm makes sure that a person means to delete the thing called name: yes is the flag
// --yes, else the name is to be typed.
func (c *cli) confirm(yes bool, kind, name string) error {
	if yes {
		return nil
	}
	if !terminal(c.in) {
		return usagef("deleting the %s %s needs --yes", kind, name)
	}
	answer, err := c.typed(fmt.Sprintf("Type %s to delete this %s: ", name, kind), true)
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != name {
		return errors.New("that is not its name; nothing was deleted")
	}
	return nil
}
