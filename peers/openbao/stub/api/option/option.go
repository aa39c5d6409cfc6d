// Package option stands in for the options of Google's API clients, of which none is left in
// this build.
package option

func WithUserAgent(string) any { return nil }

func WithTokenSource(any) any { return nil }
