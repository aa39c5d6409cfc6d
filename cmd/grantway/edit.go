package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/grantway/grantway"
)

const editHelp = `# Change what you like, save, and leave the editor. Secrets that are left out stay as they are.
# To set one: client_secret: {store: env, key: NAME}; to remove one: client_secret: null
`

// editText lets the person edit one as YAML, until it is saved, left as it was, or given up.
// An interrupt is the editor's meanwhile.
func (c *cli) editText(ctx context.Context, hub *grantway.Client, one grantway.Credential, validate bool) error {
	if !terminal(c.in) {
		return usagef("edit needs flags that say what to change, or a terminal for an editor")
	}
	ctx = context.WithoutCancel(ctx)
	file, err := os.CreateTemp("", "grantway-*.yaml") // mode 0600: a secret may be typed into it
	if err != nil {
		return fmt.Errorf("file for the editor: %w", err)
	}
	defer os.Remove(file.Name())
	before := appendCredential([]byte(editHelp), one)
	if _, err := file.Write(before); err != nil {
		return errors.Join(fmt.Errorf("file for the editor: %w", err), file.Close())
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("file for the editor: %w", err)
	}
	for {
		if err := c.openEditor(ctx, file.Name()); err != nil {
			return err
		}
		after, err := os.ReadFile(file.Name())
		if err != nil {
			return fmt.Errorf("file of the editor: %w", err)
		}
		if bytes.Equal(before, after) {
			return c.print(one, func(p *page) { p.row("credential " + one.Name + " unchanged") })
		}
		saved, err := saveText(ctx, hub, one, after)
		if err == nil {
			return c.saved(ctx, hub, saved, "changed", validate)
		}
		c.exit(err) // which prints it
		answer, err := c.typed("Edit again? [Y/n] ", true)
		if err != nil || strings.HasPrefix(strings.ToLower(answer), "n") {
			return errors.New("nothing was changed")
		}
	}
}

func saveText(ctx context.Context, hub *grantway.Client, one grantway.Credential, text []byte) (grantway.Credential, error) {
	objects, err := parseObjects("line", text)
	if err != nil {
		return one, err
	}
	if len(objects) != 1 || objects[0].kind != kindCredential {
		return one, usagef("the text must be one credential")
	}
	next := objects[0].credential
	next.Version = one.Version
	saved, err := hub.UpdateCredential(ctx, one.ID, next)
	if err != nil {
		return one, objects[0].locate(err)
	}
	return saved, nil
}

// openEditor runs $VISUAL or $EDITOR, which may have arguments of its own.
func (c *cli) openEditor(ctx context.Context, path string) error {
	editor := strings.Fields(os.Getenv("VISUAL"))
	if len(editor) == 0 {
		editor = strings.Fields(os.Getenv("EDITOR"))
	}
	if len(editor) == 0 {
		editor = []string{"vi"}
	}
	cmd := exec.CommandContext(ctx, editor[0], append(editor[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("editor %s: %w; set EDITOR to one that works", editor[0], err)
	}
	return nil
}
