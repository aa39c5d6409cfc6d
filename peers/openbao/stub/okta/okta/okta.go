// Package okta stands in for Okta's SDK, with which a second factor can be asked of its
// cloud. The tests have no second factor.
package okta

import (
	"context"
	"net/http"
)

type Option any

func WithToken(string) Option { return nil }

func WithOrgUrl(string) Option { return nil }

func WithCache(bool) Option { return nil }

type Client struct {
	User       *User
	UserFactor *UserFactor
}

func NewClient(context.Context, ...Option) (context.Context, *Client, error) {
	panic("left out of this build")
}

func (*Client) CloneRequestExecutor() *RequestExecutor { return nil }

type RequestExecutor struct{}

func (e *RequestExecutor) WithAccept(string) *RequestExecutor { return e }

func (e *RequestExecutor) WithContentType(string) *RequestExecutor { return e }

func (*RequestExecutor) NewRequest(method, url string, body any) (*http.Request, error) {
	return nil, nil
}

func (*RequestExecutor) Do(ctx context.Context, r *http.Request, answer any) (any, error) {
	return nil, nil
}

type User struct{ Id string }

func (*User) ListUsers(ctx context.Context, filter any) ([]*User, any, error) { return nil, nil, nil }

type Factor interface{ IsUserFactorInstance() bool }

type UserFactor struct{ Id, FactorType string }

func (*UserFactor) IsUserFactorInstance() bool { return false }

func (*UserFactor) ListFactors(ctx context.Context, user string) ([]Factor, any, error) {
	return nil, nil, nil
}

type VerifyFactorRequest struct{}

type VerifyUserFactorResponse struct {
	FactorResult string
	Links        any
}

func (*UserFactor) VerifyFactor(ctx context.Context, user, factor string, r VerifyFactorRequest, f Factor, query any) (*VerifyUserFactorResponse, any, error) {
	return nil, nil, nil
}
