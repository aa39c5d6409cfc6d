// Package query stands in for the filters of Okta's SDK.
package query

func WithFilter(string) any { return nil }

func NewQueryParams(...any) any { return nil }
