package app

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.26.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// traces sends traces where the standard OTEL_ variables say, and does nothing without them.
type traces struct {
	tracer  trace.Tracer
	handler func(http.Handler) http.Handler
	stop    func(context.Context) error
}

func tracing(ctx context.Context, version string) (traces, error) {
	off := traces{
		tracer:  noop.NewTracerProvider().Tracer(""),
		handler: func(h http.Handler) http.Handler { return h },
		stop:    func(context.Context) error { return nil },
	}
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return off, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return off, fmt.Errorf("traces (OTEL_EXPORTER_OTLP_ENDPOINT): %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("grantway"), semconv.ServiceVersion(version)), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return off, fmt.Errorf("traces (OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return traces{
		tracer: provider.Tracer("github.com/grantway/grantway"),
		handler: func(h http.Handler) http.Handler {
			return otelhttp.NewHandler(h, "", otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{}),
				otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.Pattern }))
		},
		stop: provider.Shutdown,
	}, nil
}
