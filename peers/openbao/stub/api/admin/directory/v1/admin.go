// Package admin stands in for the directory of Google Workspace, in which the JWT sign-in
// can look up a person's groups. It is among the largest packages of OpenBao, and the
// workloads of the tests are in no directory.
package admin

import (
	"context"
	"encoding/json"
)

const (
	AdminDirectoryGroupReadonlyScope = ""
	AdminDirectoryUserReadonlyScope  = ""
)

type Service struct {
	Groups groups
	Users  users
}

func NewService(context.Context, ...any) (*Service, error) { panic("left out of this build") }

type Group struct{ Email string }

type Groups struct{ Groups []*Group }

type groups struct{}

func (groups) List() *groupList { return nil }

type groupList struct{}

func (c *groupList) UserKey(string) *groupList { return c }

func (c *groupList) Domain(string) *groupList { return c }

func (c *groupList) Fields(...string) *groupList { return c }

func (c *groupList) Pages(context.Context, func(*Groups) error) error { return nil }

type User struct{ CustomSchemas map[string]json.RawMessage }

type users struct{}

func (users) Get(string) *userGet { return nil }

type userGet struct{}

func (c *userGet) Context(context.Context) *userGet { return c }

func (c *userGet) Projection(string) *userGet { return c }

func (c *userGet) CustomFieldMask(string) *userGet { return c }

func (c *userGet) Fields(...string) *userGet { return c }

func (c *userGet) Do() (*User, error) { return nil, nil }
