package main

// servingGuards protect the servers and the client.
var servingGuards = []guard{
	{
		name: "authentication before the body", file: "pkg/grpcserver/request_limits.go",
		cuts:  []cut{{"	if l == nil {\n		return service\n", "	if l != nil {\n		return service\n"}},
		tests: "TestB26_EveryCallIsRefusedByItsHeader", packages: []string{"./services/authority/server"},
	},
	{
		name: "small messages to public services", file: "pkg/grpcserver/public_services.go",
		cuts:  []cut{{"	if size > publicMaxReceive {\n", "	if size == 0 {\n"}},
		tests: "TestOpenServicesTakeOnlySmallMessages", packages: []string{"./pkg/grpcserver"},
	},
	{
		// Without it, a full pipe at the standard error blocks every goroutine that logs.
		name: "asynchronous log", file: "services/internal/asynclog/asynclog.go",
		cuts: []cut{{
			"	w.mu.Lock()\n	if w.closed.Err() != nil ||",
			"	if w != nil {\n		return w.to.Write(lines)\n	}\n	w.mu.Lock()\n	if w.closed.Err() != nil ||",
		}},
		tests: "TestBlockedFile", packages: []string{"./services/internal/asynclog"},
	},
	{
		// Without it, a write to a closed standard error ends the process.
		name: "a closed log ends no process", file: "services/internal/daemon/stderr.go",
		cuts:  []cut{{"	signal.Ignore(syscall.SIGPIPE)\n", "	signal.Reset(syscall.SIGPIPE)\n"}},
		tests: "TestStandardError", packages: []string{"./services/internal/daemon"},
	},
	{
		name: "a bad file changes nothing", file: "pkg/reload/reload.go",
		cuts: []cut{{
			"		if err == nil {\n			err = checkValidity(value.Get(), next, time.Now())\n		}\n		if err == nil {\n",
			"		if value != nil {\n",
		}},
		tests: "TestBadFiles", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a damaged certificate is left out of a list, and everybody who relies on it is
		// rejected.
		name: "every block of PEM is read", file: "pkg/reload/pem.go",
		cuts:  []cut{{"	if len(blocks) != want {\n", "	if len(blocks) > want {\n"}},
		tests: "TestDamagedCertificates", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a certificate that was rejected as not yet valid is not used when it becomes valid.
		name: "a rejected file is tried again", file: "pkg/reload/source.go",
		cuts:  []cut{{"			s.retry(log, now, contents)\n", "			_ = contents\n"}},
		tests: "TestTimeComes", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a client resumes a session although its authority was removed from the file.
		name: "no session outlives its authority", file: "pkg/grpcserver/tls.go",
		cuts:  []cut{{"	config.SessionTicketsDisabled = true\n", ""}},
		tests: "TestRenewedClientAuthorities", packages: []string{"./pkg/grpcserver"},
	},
	{
		// Without it, a sender that cancels its request looks like an outage, and a rule of the ingest tier
		// may let it through.
		name: "cancelled request",
		file: "pkg/client/outage.go",
		cuts: []cut{
			{"	if ctx.Err() != nil {\n		return true\n", "	if ctx == nil {\n		return true\n"},
			{"	if ctx.Err() != nil {\n		return false\n", "	if ctx == nil {\n		return false\n"},
			{
				"	case codes.Unavailable, codes.DeadlineExceeded:\n",
				"	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:\n",
			},
		},
		tests: "TestB20_ResetRequest|TestB20_EndedRequest|TestB20_AnswerToAnEnded", packages: []string{"./pkg/client"},
	},
	{
		// Without it, a validator that hangs or vanishes fails the questions that it was asked.
		name: "another validator is asked", file: "pkg/client/again.go",
		cuts: []cut{
			{"	case !s.route.Taken():\n", "	case s.route != nil:\n"},
			{"return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil", "return verdict < 0"},
		},
		tests: "TestB20_OneValidatorInTrouble", packages: []string{"./pkg/client"},
	},
	{
		name: "another validator than the first", file: "pkg/client/internal/spread/route.go",
		cuts:  []cut{{"		other.avoided = r.chosen.Load()\n", ""}},
		tests: "TestDialAsksWhoServes|TestPick", packages: []string{"./pkg/client", "./pkg/client/internal/spread"},
	},
	{
		name: "only validators that serve", file: "pkg/client/internal/spread/spread.go",
		cuts:  []cut{{"HealthCheck: true", "HealthCheck: false"}},
		tests: "TestDialAsksWhoServes", packages: []string{"./pkg/client"},
	},
	{
		// Without it, a validator that cannot answer turns another validator's late denial into an outage.
		name: "a late denial is no outage", file: "pkg/client/again.go",
		cuts:  []cut{{"	if conclusive(s.err) {\n", "	if decided(s.err) {\n"}},
		tests: "TestB20_ALateDenial", packages: []string{"./pkg/client"},
	},
	{
		// Without it, questions about one undecided app use up the second questions of all other apps.
		name: "one app uses up no second question of others", file: "pkg/client/again.go",
		cuts:  []cut{{"	if spread.VerdictOf(err) != spread.Lacking {\n", "	if spread.VerdictOf(err) != spread.Decided {\n"}},
		tests: "TestB20_OneAppCosts", packages: []string{"./pkg/client"},
	},
	{
		name: "an answer is not asked again", file: "pkg/client/again.go",
		cuts: []cut{
			{"return spread.VerdictOf(err) == spread.Decided }", "return err == nil }"},
			{
				"return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil",
				"return (verdict == verdict) && ctx.Err() == nil",
			},
		},
		tests: "TestB20_DecidedIsAskedOnce", packages: []string{"./pkg/client"},
	},
	{
		// Without it, an outage of all validators doubles their load.
		name: "budget of second questions", file: "pkg/client/budget.go",
		cuts:  []cut{{"return b.spent.Load() < most*answersPerToken/2", "return b.spent.Load() >= 0"}},
		tests: "TestBudget", packages: []string{"./pkg/client"},
	},
	{
		// Without it, a proxy from the environment sees every secret.
		name: "no proxy", file: "pkg/client/dial.go",
		cuts:  []cut{{"		grpc.WithContextDialer(d.dial),\n		grpc.WithNoProxy(),\n", ""}},
		tests: "TestNoProxy", packages: []string{"./pkg/client"},
	},
	{
		// Without it, idle health watches, which anybody may open, cause an overload.
		name: "open calls are no load", file: "services/validator/internal/authorize/limit.go",
		cuts:  []cut{{" + l.OpenGoroutines() + receiving()", " + receiving()"}},
		tests: "TestIdleWatchesAreNoLoad", packages: []string{"./services/validator/internal/authorize"},
	},
	{
		// Without it, a few connections use up the calls that probes and other clients need.
		name: "calls to public services are bounded for each connection", file: "pkg/grpcserver/public_services.go",
		cuts: []cut{{
			"		release, ok := p.streams.acquire(stream.Context())\n		if !ok {\n",
			"		release, ok := p.streams.acquire(stream.Context())\n		if !ok && p.streams == nil {\n",
		}},
		tests: "TestOpenCallsAreBoundedForEachConnection", packages: []string{"./pkg/grpcserver"},
	},
	{
		// Without it, data that follows the message of a watch is kept as long as the watch.
		name: "one message of a watch", file: "pkg/grpcserver/public_services.go",
		cuts:  []cut{{"	if s.oneMessage && err == nil {\n", "	if s.oneMessage && err != nil {\n"}},
		tests: "TestWatchTakesOneMessage", packages: []string{"./pkg/grpcserver"},
	},
}
