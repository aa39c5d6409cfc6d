package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway/connector"
)

func (c *cli) connectorCommand() *cobra.Command {
	lint := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check definitions of connectors",
		Long: `Check definitions of connectors, and report everything that is wrong with its line, column
and what to do. A definition may extend those of this program, and those beside it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.run(c.lint),
	}
	var update bool
	test := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the recorded cases of definitions, without a network",
		Long: `Run the recorded cases of definitions: those of NAME.yaml are in NAME.cases.yaml beside it, or
in the directory cases there. No request goes out. With --update the cases are written as the definition does them now.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.run(func(ctx context.Context, files []string) error { return c.test(ctx, files, update) }),
	}
	test.Flags().BoolVar(&update, "update", false, "write what came out into the cases")
	return group("connector", "Manage connectors, and check their definitions",
		c.connectorList(), c.connectorShow(), c.connectorAdd(), c.connectorEdit(), c.connectorCopy(), c.connectorExport(), c.connectorVersions(),
		c.connectorTry(), c.connectorRemove(), lint, test)
}

// checked is what lint and test say about one file.
type checked struct {
	File     string             `json:"file"`
	Name     string             `json:"name,omitempty"`
	OK       bool               `json:"ok"`
	Problems connector.Problems `json:"problems"`
	Cases    []checkedCase      `json:"cases,omitempty"`
}

type checkedCase struct {
	Name        string   `json:"name"`
	OK          bool     `json:"ok"`
	Differences []string `json:"differences,omitempty"`
}

// casesSuffix is what the names of files with recorded cases end in.
const casesSuffix = ".cases.yaml"

// definitions are files without those of recorded cases, so that *.yaml names definitions.
func definitions(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(file string) bool { return strings.HasSuffix(file, casesSuffix) })
}

// casesOf is where the recorded cases of a definition are: beside it, or in the directory cases there.
func casesOf(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), ".yaml") + casesSuffix
	beside := filepath.Join(filepath.Dir(file), name)
	apart := filepath.Join(filepath.Dir(file), "cases", name)
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	if _, err := os.Stat(apart); err == nil {
		return apart
	}
	return beside
}

// load compiles the definition in a file.
func load(file string) (*connector.Definition, checked) {
	result := checked{File: file, Problems: connector.Problems{}}
	text, err := os.ReadFile(file)
	if err != nil {
		result.Problems = connector.Problems{{Message: err.Error()}}
		return nil, result
	}
	find := func(name string) (*connector.Definition, bool) {
		beside := filepath.Join(filepath.Dir(file), filepath.Base(name)+".yaml")
		if text, err := os.ReadFile(beside); err == nil && filepath.Clean(beside) != filepath.Clean(file) {
			d, err := connector.Parse(text, func(string) (*connector.Definition, bool) { return nil, false })
			if err == nil {
				return d, true
			}
		}
		return connector.Find(name)
	}
	d, err := connector.Parse(text, find)
	if problems := (connector.Problems)(nil); errors.As(err, &problems) {
		result.Problems = problems
		return nil, result
	}
	if err != nil {
		result.Problems = connector.Problems{{Message: err.Error()}}
		return nil, result
	}
	result.Name, result.OK = d.Name, true
	result.Problems = append(result.Problems, d.Warnings...)
	return d, result
}

func (c *cli) lint(_ context.Context, files []string) error {
	var results []checked
	for _, file := range definitions(files) {
		_, result := load(file)
		results = append(results, result)
	}
	return c.checked(results)
}

func (c *cli) test(ctx context.Context, files []string, update bool) error {
	var results []checked
	for _, file := range definitions(files) {
		d, result := load(file)
		if d != nil {
			if err := testCases(ctx, d, casesOf(file), &result, update); err != nil {
				result.OK = false
				result.Problems = append(result.Problems, connector.Problem{Message: err.Error()})
			}
		}
		results = append(results, result)
	}
	return c.checked(results)
}

func testCases(ctx context.Context, d *connector.Definition, file string, result *checked, update bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("no recorded cases: %w", err)
	}
	cases, err := connector.ParseCases(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for i, one := range cases {
		got, err := d.Run(ctx, one)
		if err != nil {
			return fmt.Errorf("case %s: %w", one.Name, err)
		}
		outcome := checkedCase{Name: one.Name, OK: true}
		if update {
			cases[i] = got
		} else if outcome.Differences = one.Differences(got); outcome.Differences != nil {
			outcome.OK, result.OK = false, false
		}
		result.Cases = append(result.Cases, outcome)
	}
	if !update {
		return nil
	}
	if text, err = connector.FormatCases(cases); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// checked prints results, and fails when one of them is bad.
func (c *cli) checked(results []checked) error {
	bad := 0
	for _, r := range results {
		if !r.OK {
			bad++
		}
	}
	err := c.print(results, func(p *page) {
		for _, r := range results {
			for _, problem := range r.Problems {
				kind := ""
				if problem.Warning {
					kind = "warning: "
				}
				p.row(r.File + ":" + kind + problem.String())
			}
			for _, one := range r.Cases {
				p.mark(map[bool]string{true: "✓", false: "✗"}[one.OK], one.OK)
				p.row(r.Name + ": " + one.Name)
				for _, difference := range one.Differences {
					for line := range strings.SplitSeq(difference, "\n") {
						p.row("  " + line)
					}
				}
			}
			if r.OK && r.Cases == nil {
				p.mark("✓", true)
				p.row(r.File)
			}
		}
	})
	if err == nil && bad > 0 {
		err = notOK{fmt.Sprintf("%d of %d definitions failed", bad, len(results))}
	}
	return err
}
