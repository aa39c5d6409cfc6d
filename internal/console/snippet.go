package console

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed snippet
var snippetFiles embed.FS

// snippet is a program that uses one credential, to paste and run. It reads who it is from
// GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET.
type snippet struct{ Title, Text string }

// loadSnippets reads the programs, in which {hub} and {credential} are still to be filled in.
func loadSnippets() (list []snippet, err error) {
	for _, one := range []struct{ title, file string }{{"curl", "curl.sh"}, {"Go", "main.go.txt"}, {"Python", "main.py"}, {"Node", "main.mjs"}, {"Shell", "grantway.sh"}} {
		text, err := snippetFiles.ReadFile("snippet/" + one.file)
		if err != nil {
			return nil, fmt.Errorf("console snippets: %w", err)
		}
		list = append(list, snippet{one.title, strings.TrimSpace(string(text))})
	}
	return list, nil
}

// snippetsFor are the programs for one credential. Neither a name nor the URL of a hub can hold
// what means something in one of the languages.
func (c *Console) snippetsFor(credential string) []snippet {
	fill := strings.NewReplacer("{hub}", strings.TrimSuffix(c.URL(), "/"), "{credential}", credential)
	list := make([]snippet, len(c.snippets))
	for i, s := range c.snippets {
		list[i] = snippet{s.Title, fill.Replace(s.Text)}
	}
	return list
}
