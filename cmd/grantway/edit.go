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

// editText is inEditor for a credential.
func (c *cli) editText(ctx context.Context, hub *grantway.Client, one grantway.Credential, validate bool) error {
	if !terminal(c.in) {
		return usagef("edit needs flags that say what to change, or a terminal for an editor")
	}
	ctx = context.WithoutCancel(ctx)
	var saved grantway.Credential
	changed, err := c.inEditor(ctx, appendCredential([]byte(editHelp), one), func(text []byte) (err error) {
		saved, err = saveText(ctx, hub, one, text)
		return err
	})
	switch {
	case err != nil:
		return err
	case !changed:
		return c.print(one, func(p *page) { p.row("credential " + one.Name + " unchanged") })
	}
	return c.saved(ctx, hub, saved, "changed", validate)
}

// inEditor lets the person edit text, until save takes it, it is left as it was (changed is false then), or
// given up. ctx should be one that cannot be canceled: an interrupt is the editor's meanwhile.
func (c *cli) inEditor(ctx context.Context, text []byte, save func(text []byte) error) (changed bool, err error) {
	file, err := os.CreateTemp("", "grantway-*.yaml") // mode 0600: a secret may be typed into it
	if err != nil {
		return false, fmt.Errorf("file for the editor: %w", err)
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(text); err != nil {
		return false, errors.Join(fmt.Errorf("file for the editor: %w", err), file.Close())
	}
	if err := file.Close(); err != nil {
		return false, fmt.Errorf("file for the editor: %w", err)
	}
	for {
		if err := c.openEditor(ctx, file.Name()); err != nil {
			return false, err
		}
		after, err := os.ReadFile(file.Name())
		if err != nil {
			return false, fmt.Errorf("file of the editor: %w", err)
		}
		if bytes.Equal(text, after) {
			return false, nil
		}
		if err = save(after); err == nil {
			return true, nil
		}
		c.exit(err) // which prints it
		answer, err := c.typed("Edit again? [Y/n] ", true)
		if err != nil || strings.HasPrefix(strings.ToLower(answer), "n") {
			return false, errors.New("nothing was changed")
		}
	}
}

func saveText(ctx context.Context, hub *grantway.Client, one grantway.Credential, text []byte) (grantway.Credential, error) {
	objects, err := parseObjects("", text)
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
