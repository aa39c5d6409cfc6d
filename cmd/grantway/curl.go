package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantway/grantway"
)

// curlFlags are those of curl that make sense here, with curl's letters.
type curlFlags struct {
	refFlags
	answerFlags
	method, body string
	headers      []string
}

func (c *cli) curlCommand() *cobra.Command {
	var f curlFlags
	cmd := &cobra.Command{
		Use:   "curl NAME URL",
		Short: "Make one authorized request",
		Long: `Make one request with a token of the credential NAME and print the answer. The token is on no
command line and goes only to the origin of URL. When the API answers 401, the request is
sent once more with a new token. Redirects are not followed.`,
		Example: `  grantway curl sales https://api.example.com/v1/mail
  grantway curl sales https://api.example.com/v1/mail -d @mail.json --fail`,
		Args: cobra.ExactArgs(2),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			ref, err := f.ref(args[0])
			if err != nil {
				return err
			}
			req, err := f.request(ctx, c.in, args[1])
			if err != nil {
				return err
			}
			api := &http.Client{
				Transport:     hub.Transport(ref),
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			resp, err := api.Do(req)
			var refused *grantway.Error
			if errors.As(err, &refused) { // the hub gave no token: no request was made to the API
				return refused
			}
			if err != nil {
				return err
			}
			if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
				c.note("grantway: HTTP %d to %s is not followed: the token is for %s", resp.StatusCode, to, req.URL.Host)
			}
			return c.answer(resp, f.answerFlags)
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.method, "request", "X", "", "method (default GET, with -d POST)")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "header line `NAME: VALUE`; repeatable")
	flags.StringVarP(&f.body, "body", "d", "", "body of the request; @FILE reads it from a file, - from standard input")
	f.answerFlags.register(flags)
	f.refFlags.register(flags)
	return cmd
}

// request makes the request that the flags describe. Its body is in memory, so that it can be
// sent a second time.
func (f *curlFlags) request(ctx context.Context, in io.Reader, url string) (*http.Request, error) {
	method := f.method
	var body []byte
	if f.body != "" {
		var err error
		if body, err = f.readBody(in); err != nil {
			return nil, err
		}
		if method == "" {
			method = http.MethodPost
		}
	}
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return nil, usagef("the URL needs http:// or https:// at its beginning")
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, usagef("%v", err)
	}
	if req.URL.Host == "" {
		return nil, usagef("the URL needs a host")
	}
	if f.body != "" {
		req.Header.Set("Content-Type", contentType(body))
	}
	req.Header.Set("User-Agent", "grantway/"+version())
	for _, line := range f.headers {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return nil, usagef("-H wants NAME: VALUE")
		case strings.EqualFold(name, "Authorization"):
			return nil, usagef("-H: the Authorization header is what this command sets")
		case strings.EqualFold(name, "Host"):
			req.Host = value
		case strings.EqualFold(name, "Content-Type"):
			req.Header.Set(name, value)
		default:
			req.Header.Add(name, value)
		}
	}
	return req, nil
}

func (f *curlFlags) readBody(in io.Reader) ([]byte, error) {
	path, isFile := strings.CutPrefix(f.body, "@")
	switch {
	case f.body == "-" || isFile && path == "-":
		return io.ReadAll(in)
	case isFile:
		return os.ReadFile(path)
	}
	return []byte(f.body), nil
}

// contentType tells JSON from the form that curl assumes.
func contentType(body []byte) string {
	if json.Valid(body) {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

// answerFlags say what becomes of the answer of an API.
type answerFlags struct {
	output        string
	include, fail bool
}

func (f *answerFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.output, "output", "o", "", "write the answer to this file")
	flags.BoolVarP(&f.include, "include", "i", false, "print the status and the headers of the answer too")
	flags.BoolVarP(&f.fail, "fail", "f", false, "print no body and exit with 3 when the API answers 400 or above")
}

// answer prints the answer of an API, and closes it.
func (c *cli) answer(resp *http.Response, f answerFlags) (err error) {
	defer resp.Body.Close()
	if f.fail && resp.StatusCode >= http.StatusBadRequest {
		return notOK{"the API answered HTTP " + resp.Status}
	}
	out := c.out
	if f.output != "" {
		file, createErr := os.Create(f.output)
		if createErr != nil {
			return createErr
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	if f.include {
		fmt.Fprintf(out, "%s %s\r\n", resp.Proto, resp.Status)
		if err := resp.Header.Write(out); err != nil {
			return err
		}
		fmt.Fprint(out, "\r\n")
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("read the answer of %s: %w", resp.Request.URL.Host, err)
	}
	return nil
}
