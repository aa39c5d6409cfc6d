package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/grantway/grantway"
)

// print writes a result: v as JSON with --json, else what human puts on the page.
func (c *cli) print(v any, human func(*page)) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	var text bytes.Buffer
	p := &page{tabs: tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0), color: terminal(c.out) && os.Getenv("NO_COLOR") == ""}
	human(p)
	p.tabs.Flush()
	_, err := c.out.Write(trimLines(text.Bytes()))
	return err
}

// note tells the person something beside the result.
func (c *cli) note(format string, args ...any) {
	fmt.Fprintln(c.errs, printable(fmt.Sprintf(format, args...)))
}

// page is text for people, with columns that line up.
type page struct {
	tabs  *tabwriter.Writer
	color bool
}

// row writes one line of cells. What a cell holds came over the network and cannot send
// control sequences to the terminal.
func (p *page) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			io.WriteString(p.tabs, "\t")
		}
		io.WriteString(p.tabs, strings.ReplaceAll(printable(cell), "\n", " "))
	}
	io.WriteString(p.tabs, "\n")
}

// facts writes names and values, two by two; a fact without a value is left out.
func (p *page) facts(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			p.row(pairs[i], pairs[i+1])
		}
	}
}

// mark writes a sign that begins a line and is green when ok and red when not.
func (p *page) mark(sign string, ok bool) {
	if p.color {
		sign = fmt.Sprintf("\x1b[%dm%s\x1b[0m", map[bool]int{true: 32, false: 31}[ok], sign)
	}
	io.WriteString(p.tabs, sign+" ")
}

// printable replaces control characters other than line breaks.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// trimLines removes the blanks that empty cells leave at the ends of lines.
func trimLines(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		b.Write(bytes.TrimRight(line, " \n"))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// terminal says whether w is a terminal.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// when writes a time of the past or the future with its distance; "" for the zero time.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	distance, format := time.Until(t), "in %s"
	if distance < 0 {
		distance, format = -distance, "%s ago"
	}
	return t.Local().Format(time.DateTime) + " (" + fmt.Sprintf(format, rough(distance)) + ")"
}

// rough writes a duration in one unit.
func rough(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// collect reads a whole list, as one page.
func collect[T any](items iter.Seq2[T, error]) (grantway.Page[T], error) {
	all := grantway.Page[T]{Items: []T{}}
	for item, err := range items {
		if err != nil {
			return all, err
		}
		all.Items = append(all.Items, item)
	}
	return all, nil
}
