package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway/internal/app"
)

func TestPageLinesUpAndHidesControlCharacters(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out}
	err := c.print(nil, func(p *page) {
		p.row("NAME", "", "LAST")
		p.row("é", "x\x1b[31m\ty", "two\nlines")
		p.facts("left out", "", "long name", "v\u202ealue")
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"NAME                 LAST",
		"é          x\ufffd[31m y  two lines",
		"long name  v\ufffdalue",
		"",
	}, "\n")
	if out.String() != want {
		t.Errorf("page:\n%s\nwant:\n%s", &out, want)
	}
}

func TestRough(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 119 * time.Second: "119 s", 2 * time.Minute: "2 min", 2 * time.Hour: "2 h", 49 * time.Hour: "2 days",
	} {
		if got := rough(d); got != want {
			t.Errorf("rough(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPastTime(t *testing.T) {
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"24h":                  now.Add(-24 * time.Hour),
		"-90m":                 now.Add(-90 * time.Minute),
		"2027-01-01T00:00:00Z": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		"2027-01-01":           time.Date(2027, 1, 1, 0, 0, 0, 0, time.Local),
	} {
		if got, err := pastTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("pastTime(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := pastTime("yesterday", now); err == nil {
		t.Error("pastTime takes yesterday")
	}
}

func TestNetworks(t *testing.T) {
	var n networks
	if err := n.Set("10.1.2.3/8, ::1,192.0.2.7"); err != nil {
		t.Fatal(err)
	}
	if want := "10.0.0.0/8,::1/128,192.0.2.7/32"; n.String() != want {
		t.Errorf("networks are %s, want %s", n.String(), want)
	}
	if err := n.Set("10.0.0.0/33"); err == nil || n[0] != netip.MustParsePrefix("10.0.0.0/8") {
		t.Errorf("a wrong network gives error %v and %v", err, n)
	}
}

func TestScalar(t *testing.T) {
	for text, want := range map[string]string{
		"abc": "abc", "a b": "a b", "300": "300", "https://x.example:8443/a?b=c": `"https://x.example:8443/a?b=c"`, "https://x.example:8443/a": "https://x.example:8443/a",
		"https://x.example/token": "https://x.example/token", "": `""`, "null": `"null"`, "No": `"No"`, "0123": `"0123"`,
		"a: b": `"a: b"`, "a:": `"a:"`, " a": `" a"`, "-": `"-"`, "a #b": `"a #b"`, "é": `"é"`, "<b>": `"<b>"`, "a\tb": `"a\tb"`,
	} {
		if got := scalar(text); got != want {
			t.Errorf("scalar(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestWelcome(t *testing.T) {
	data := filepath.Join(t.TempDir(), "hub")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"owner.json", "key"} {
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		options app.Options
		want    []string
		without string
	}{
		{app.Options{Demo: true}, []string{"running at http://127.0.0.1:8420\n", data + "/owner.json", data + "/key", "grantway token demo --data " + data}, "credential add"},
		{app.Options{Key: "env:KEY"}, []string{"grantway credential add NAME"}, data + "/key"},
	} {
		var out bytes.Buffer
		c := &cli{out: &out, data: data}
		c.welcome("http://127.0.0.1:8420", row.options)
		for _, want := range row.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the welcome lacks %q:\n%s", want, &out)
			}
		}
		if strings.Contains(out.String(), row.without) {
			t.Errorf("the welcome holds %q:\n%s", row.without, &out)
		}
	}
}
