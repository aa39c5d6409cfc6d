package connector

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// view is a request as the variable request shows it to templates.
type view struct {
	method string
	url    *url.URL
	host   string // when it is not that of url
	header http.Header
	body   []byte
}

// headers are the values of headers by lower-case name.
type headers map[string]any

// requestMembers are the members of the variable request.
var requestMembers = []string{"method", "url", "scheme", "host", "path", "query", "content_type", "headers", "params", "body"}

// members are those of v that are in uses.
func (v view) members(uses []string) map[string]any {
	m := make(map[string]any, len(uses))
	for _, name := range uses {
		m[name] = v.member(name)
	}
	return m
}

func (v view) member(name string) any {
	switch name {
	case "method":
		return v.method
	case "url":
		return v.url.String()
	case "scheme":
		return v.url.Scheme
	case "host":
		if v.host != "" {
			return v.host
		}
		return v.url.Host
	case "path":
		if path := v.url.EscapedPath(); path != "" {
			return path
		}
		return "/"
	case "query":
		return v.url.RawQuery
	case "content_type":
		return v.header.Get("Content-Type")
	case "headers":
		h := make(headers, len(v.header))
		for name, values := range v.header {
			h[strings.ToLower(name)] = strings.Join(values, ", ")
		}
		if h["accept"] == "*/*" { // that is how clients say nothing
			delete(h, "accept")
		}
		return h
	case "params":
		list := pairsOf(v.url.RawQuery)
		if media, _, _ := mime.ParseMediaType(v.header.Get("Content-Type")); media == formType {
			list = append(list, pairsOf(string(v.body))...)
		}
		return list
	case "body":
		return string(v.body)
	}
	return nil
}

// pairsOf are the names and values of a query or form, in its order: a list of lists of two.
func pairsOf(query string) []any {
	list := []any{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		list = append(list, []any{unescaped(name), unescaped(value)})
	}
	return list
}

// unescaped is text as it is if it is escaped wrongly.
func unescaped(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

// requestUses are the members of request that pairs use.
func requestUses(lists ...[]pair) []string {
	var uses []string
	for _, p := range slices.Concat(lists...) {
		for _, name := range namesOf(p.value) {
			first, rest, _ := strings.Cut(name, ".")
			member, _, _ := strings.Cut(rest, ".")
			switch {
			case first != "request":
			case !slices.Contains(requestMembers, member): // it may be any of them
				return requestMembers
			case !slices.Contains(uses, member):
				uses = append(uses, member)
			}
		}
	}
	return uses
}
