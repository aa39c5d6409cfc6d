package grant

import (
	"cmp"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// redactor takes out of a server's words what must not be shown: everything secret that
// was sent, in the spellings a server may echo it in, and everything that looks like a token.
type redactor struct {
	secrets *strings.Replacer
	public  string // what was sent and is no secret, although it may look like one
}

// minSecret is the length below which a value is not taken out: it would hide every
// occurrence of a syllable.
const minSecret = 4

func newRedactor(secrets []string, public string) *redactor {
	var words []string
	for _, s := range secrets {
		quoted, _ := json.Marshal(s)
		inGo := strconv.Quote(s) // as the errors of package net/http quote
		for _, w := range []string{s, strings.TrimSpace(s), url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s), string(quoted[1 : len(quoted)-1]), inGo[1 : len(inGo)-1]} {
			if len(w) >= minSecret {
				words = append(words, w)
			}
		}
	}
	// A longer secret may contain a shorter one.
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, w := range slices.Compact(words) {
		pairs = append(pairs, w, redacted)
	}
	return &redactor{secrets: strings.NewReplacer(pairs...), public: public}
}

var (
	// tokenLike is a run long enough for a token; it is one if it mixes letters and digits.
	tokenLike = regexp.MustCompile(`[A-Za-z0-9_~+=-]{20,}`)

	// guid is an identifier that support staff ask for, such as a trace or tenant id.
	guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

	// labelled is a value whose label says that it is secret.
	labelled = regexp.MustCompile(`(?i)((?:token|secret|passw(?:or)?d|assertion|credential|jwt|api_?key)s?["']?\s*[:=]\s*)("[^"]*"?|'[^']*'?|[^\s"'<>,;&}]+)`)
)

// text makes s fit to be shown: one line, redacted, at most max characters. In the
// answer to a request that worked any GUID may be a token, in others it is not.
func (h *redactor) text(s string, max int, keepGUID bool) string {
	s = h.secrets.Replace(oneLine(h.secrets.Replace(s)))
	s = tokenLike.ReplaceAllStringFunc(s, func(w string) string {
		switch {
		case !strings.ContainsAny(w, "0123456789"), !strings.ContainsFunc(w, unicode.IsLetter):
			return w
		case strings.Contains(h.public, w), keepGUID && guid.MatchString(w):
			return w
		}
		return redacted
	})
	if r := []rune(s); len(r) > max {
		s = string(r[:max-1]) + "…"
	}
	return s
}

// body is text for a piece of a body, of which at most 200 characters are shown.
func (h *redactor) body(b []byte, status int) string {
	s := strings.TrimSpace(string(b))
	ok := status >= 200 && status < 300
	if ok && !strings.ContainsAny(s, " <{") {
		return redacted // one word: the token itself, perhaps in quotes
	}
	return h.text(labelled.ReplaceAllString(s, "${1}"+redacted), 200, !ok)
}

// oneLine replaces control, format and other unprintable characters by spaces, and
// collapses the spaces.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) || !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))), " ")
}
