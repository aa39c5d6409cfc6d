package connector

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Functions for what is signed: pairs of names and values, put into an order and written as the
// vendor wants them. Pairs are a list of lists of two, such as request.params, or a map, such as
// request.headers or a JSON object, whose pairs are in the order of their names.

// nameAndValue is a pair as text.
type nameAndValue = [2]string

// pairsFrom reads v as pairs.
func pairsFrom(v any) ([]nameAndValue, error) {
	var list []nameAndValue
	add := func(name string, value any) error {
		text, err := limited(value)
		list = append(list, nameAndValue{name, text})
		return err
	}
	if h, ok := v.(headers); ok {
		v = map[string]any(h)
	}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := add(name, v[name]); err != nil {
				return nil, err
			}
		}
	case []any:
		for _, item := range v {
			two, ok := item.([]any)
			if !ok || len(two) != 2 {
				return nil, errors.New("needs names and values, such as request.params")
			}
			name, err := limited(two[0])
			if err != nil {
				return nil, err
			}
			if err := add(name, two[1]); err != nil {
				return nil, err
			}
		}
	default:
		return nil, errors.New("needs names and values, such as request.params")
	}
	return list, nil
}

func pairsTo(list []nameAndValue) []any {
	out := make([]any, len(list))
	for i, p := range list {
		out[i] = []any{p[0], p[1]}
	}
	return out
}

// sorted is sort(list): texts, or pairs by name and then value, in the order of their bytes.
func sorted(a ...any) (any, error) {
	if len(a) != 1 {
		return nil, errors.New("sort takes a list")
	}
	list, isList := a[0].([]any)
	if isList && len(list) > 0 {
		if _, pair := list[0].([]any); !pair {
			texts := make([]string, len(list))
			for i, item := range list {
				var err error
				if texts[i], err = limited(item); err != nil {
					return nil, err
				}
			}
			slices.Sort(texts)
			return anys(texts)
		}
	}
	pairs, err := pairsFrom(a[0])
	if err != nil {
		return nil, fmt.Errorf("sort %w", err)
	}
	slices.SortStableFunc(pairs, func(p, q nameAndValue) int { return slices.Compare(p[:], q[:]) })
	return pairsTo(pairs), nil
}

// only is only(pairs, name, …), and without the opposite. A name that ends in * is all that begin so.
func only(function string, keep bool) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		if len(a) < 2 {
			return nil, errors.New(function + " takes pairs and names")
		}
		pairs, err := pairsFrom(a[0])
		if err != nil {
			return nil, fmt.Errorf("%s %w", function, err)
		}
		var names []string
		for _, v := range a[1:] {
			name, err := limited(v)
			if err != nil {
				return nil, err
			}
			names = append(names, name)
		}
		pairs = slices.DeleteFunc(pairs, func(p nameAndValue) bool {
			return keep != slices.ContainsFunc(names, func(name string) bool {
				prefix, open := strings.CutSuffix(name, "*")
				return p[0] == name || open && strings.HasPrefix(p[0], prefix)
			})
		})
		return pairsTo(pairs), nil
	}
}

// joinPairs is join_pairs(pairs, between, after, encoding): name and value with between between
// them, and after between pairs. The encoding is url or form, or none.
func joinPairs(a ...any) (any, error) {
	if len(a) != 3 && len(a) != 4 {
		return nil, errors.New("join_pairs takes pairs, what goes between name and value, what goes between pairs, and perhaps url or form")
	}
	pairs, err := pairsFrom(a[0])
	if err != nil {
		return nil, fmt.Errorf("join_pairs %w", err)
	}
	var more [3]string
	for i, v := range a[1:] {
		if more[i], err = limited(v); err != nil {
			return nil, err
		}
	}
	encode, ok := map[string]func(string) string{"": func(s string) string { return s }, "url": percent, "form": url.QueryEscape}[more[2]]
	if !ok {
		return nil, fmt.Errorf("join_pairs: there is no encoding %s", more[2])
	}
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteString(more[1])
		}
		b.WriteString(encode(p[0]) + more[0] + encode(p[1]))
		if b.Len() > maxOutput {
			return nil, errors.New("join_pairs: the result is too large")
		}
	}
	return b.String(), nil
}
