package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) auditCommand() *cobra.Command {
	var action, caller, object, outcome, since, until string
	var limit int
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed, validated or was refused what, newest first",
		Example: `  grantway audit --action credential. --since 24h
  grantway audit --outcome denied --json`,
		Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			filter := url.Values{}
			for name, value := range map[string]string{"action": action, "caller": caller, "object": object, "outcome": outcome} {
				if value != "" {
					filter.Set(name, value)
				}
			}
			for name, value := range map[string]string{"since": since, "until": until} {
				if value == "" {
					continue
				}
				t, err := pastTime(value, time.Now())
				if err != nil {
					return usagef("--%s: %v", name, err)
				}
				filter.Set(name, t.UTC().Format(time.RFC3339))
			}
			list := grantway.Page[grantway.Event]{Items: []grantway.Event{}}
			for e, err := range hub.Audit(ctx, filter) {
				if err != nil {
					return err
				}
				if list.Items = append(list.Items, e); len(list.Items) == limit {
					break
				}
			}
			return c.print(list, func(p *page) {
				p.row("TIME", "CALLER", "ACTION", "OBJECT", "OUTCOME", "DETAIL")
				for _, e := range list.Items {
					detail := e.Detail
					if len(e.Fields) > 0 {
						detail = strings.TrimSpace(strings.Join(e.Fields, ", ") + " " + detail)
					}
					p.row(e.At.Local().Format(time.DateTime), e.Name, e.Action, e.Object, e.Outcome, detail)
				}
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&action, "action", "", "only this action, such as credential.create; \"credential.\" is all that begin so")
	flags.StringVar(&caller, "caller", "", "only what this client did, by its ID")
	flags.StringVar(&object, "object", "", "only this object, such as credential/sales")
	flags.StringVar(&outcome, "outcome", "", "only done, denied or failed")
	flags.StringVar(&since, "since", "", "only from this time on: 24h (ago), 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.StringVar(&until, "until", "", "only before this time, in the same forms")
	flags.IntVar(&limit, "limit", 100, "at most so many; 0 is all")
	return cmd
}

// pastTime reads a time, a day (its beginning, here) or how long ago it was.
func pastTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("must be a time such as 24h, 2027-01-31 or 2027-01-31T12:00:00Z")
	}
	return t, nil
}
