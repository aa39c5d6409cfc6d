package grantway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway"
)

// An HTTP client whose requests carry a token of the credential "sales-email". The program
// never sees the secret behind it.
func Example() {
	hub, err := grantway.NewClient(grantway.Options{}) // GRANTWAY_URL, GRANTWAY_CLIENT_ID, GRANTWAY_CLIENT_SECRET
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close(context.Background())

	mail := &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "sales-email"}), Timeout: time.Minute}
	resp, err := mail.Get("https://mail.example.com/v1/messages")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
}

// A token source for a library that takes one, such as those of Google and Microsoft.
func ExampleClient_TokenSource() {
	hub, err := grantway.NewClient(grantway.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close(context.Background())

	ctx := context.Background()
	source := hub.TokenSource(ctx, grantway.Ref{Credential: "sales-email", Scope: "mail.read"})
	resp, err := oauth2.NewClient(ctx, source).Get("https://mail.example.com/v1/messages")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
}

// Stores a credential whose secret stays in a secret store, and checks it.
func ExampleClient_CreateCredential() {
	hub, err := grantway.NewClient(grantway.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close(context.Background())

	ctx := context.Background()
	saved, err := hub.CreateCredential(ctx, grantway.Credential{
		Name: "sales-email",
		Inputs: grantway.Inputs{
			"client_id":      grantway.Text("4f1c8e"),
			"client_secret":  {Ref: &grantway.SecretRef{Store: "file", Key: "sales-email"}},
			"token_endpoint": grantway.Text("https://login.example.com/oauth2/token"),
			"scopes":         grantway.Text("mail.read"),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	report, err := hub.ValidateCredential(ctx, saved.ID)
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range report.Steps {
		fmt.Println(step.Name, step.Result, step.Message, step.Hint)
	}
}

// Lists every credential that the caller may see.
func ExampleClient_Credentials() {
	hub, err := grantway.NewClient(grantway.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close(context.Background())

	for c, err := range hub.Credentials(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.Name, c.Division)
	}
}

// Tells a provider that says no from one that is away for a while.
func ExampleError() {
	hub, err := grantway.NewClient(grantway.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close(context.Background())

	_, err = hub.Token(context.Background(), grantway.Ref{Credential: "sales-email"})
	var e *grantway.Error
	switch {
	case errors.As(err, &e) && e.Code == grantway.TokenRefused:
		fmt.Println("somebody has to correct the credential:", e.Message)
	case errors.As(err, &e) && e.Code == grantway.Unavailable:
		fmt.Println("try again at", e.RetryAt)
	case err != nil:
		log.Fatal(err)
	}
}
