/* Spin model of how an execution and its client meet: internal/meeting and the
 * second half of asl/download.asl.json. model_test.go runs it.
 *
 * Processes have the names of the Lambdas and the deliver machine, inlines those
 * of the methods of package meeting, and labels those of the machine's states. A
 * read or write of the item, a call with a task token, and a post are one step
 * each, and anything may happen between two steps. AWS gives no more atomicity
 * than that.
 *
 * Each kind of fault has a budget, set with -D:
 *   NC         connections that may be tried, by CLIENTS clients that drop and return
 *   LOST       writes, token calls, and posts that are applied, and repeated because the reply is lost
 *   CRASH      Lambdas killed between two steps, and started again by their retries
 *   THROTTLED  token calls that fail permanently, applied or not
 *   TIMEOUTS   waits that time out, possibly while a client connects
 *   EXHAUSTED  deliveries that give up while a handshake is still open
 *   TWICE      deliveries started a second time because the first start's reply was lost
 *   CANCEL     DELETE /executions/{name}, at any moment
 *   REQUEST    GET /executions/{name}, which connects without a socket
 *   STOP       StopExecution, at any moment, and clean-up after it
 *   FAILS      a copy that fails
 *   LATER      an origin that has the file later: the download has a request item, and
 *              its workflow a long wait, which a cancel doesn't outwait
 * A $disconnect may come early, late, or never (for example when the index doesn't
 * have the item yet), whatever the budgets.
 *
 * When no process can continue, Verdict checks the outcome. Each NO_... removes one
 * guard, and then Spin finds a run that Verdict rejects.
 */
#ifndef NC
#define NC 2
#endif
#ifndef CLIENTS
#define CLIENTS 1
#endif

#define NOBODY     0
#define BY_REQUEST (NC+1)          /* meeting.Request: a client without a socket */

mtype = { COPYING, READY, DELIVERED, FAILED, CANCELLED, EXPIRED };  /* meeting.Status */
mtype = { NONE, OPENING, OPEN, CLOSED, VANISHED, REFUSED };         /* a socket; VANISHED has no $disconnect */
mtype = { SUCCEEDED, GONE, STILL_OPENING, TIMED_OUT };              /* how a task ended, or CANCELLED */

/* the item */
bool exists = true;
mtype status = COPYING;
byte connectionId = NOBODY;
byte taskToken = 0;
bool cancelled = false;
/* S3 */
bool object = false;
/* API Gateway */
mtype socket[NC+1] = NONE;
byte tries = 0;
/* Step Functions: the task that waits is the one of token open, if it isn't 0 */
byte open = 0;
mtype answer = NONE;
bool waiting = false;
mtype end = NONE;                  /* how the execution ended */
bool stopped = false;
#ifdef LATER
/* the request item, and what WaitUntil wrote */
bool request = true;
bool waits = false;
bool stop = false;                 /* Cancel has stopped the execution */
#define DROP request = false
#else
#define DROP skip
#endif
#ifdef NO_DROP_WITH_COPIED
#define DROP_COPIED skip
#else
#define DROP_COPIED DROP
#endif
#ifdef NO_DROP_AT_THE_END
#define DROP_ENDED skip
#else
#define DROP_ENDED DROP
#endif

/* the deliveries: one for each connection, started by its on-connect; the
 * workflow's own, whose result it waits for; its double; clean-up's */
#define OWN    (NC+1)
#define DOUBLE (NC+2)
#define LAST   (NC+3)
bool start[NC+4] = false;
mtype delivery = NONE;

/* what happened, for Verdict */
bool notified[NC+1] = false;           /* this connection got the outcome */
bool links = false;                /* a client got a link */
byte last = NOBODY;                /* the connection written last, which must get the outcome */
bool accepted = false;             /* a cancel was answered with 202 */
bool served = false;               /* the REST client has its answer */

#define shut(c) (socket[c] == CLOSED || socket[c] == VANISHED || socket[c] == REFUSED)
#define running (status == COPYING || status == READY)
#define without (status == FAILED || status == CANCELLED)
#define WITHOUT(s) (s == FAILED || s == CANCELLED)
#define ENDED(s) (s != COPYING && s != READY)

/* the budgets; a fault without a budget adds no states */
#ifdef LOST
byte lost = LOST;
#define REPEATED(label) label: skip;
#define REPEAT(label) if :: lost > 0 -> lost--; goto label :: skip fi
#else
#define REPEATED(label)
#define REPEAT(label) skip
#endif
#ifdef CRASH
byte crash = CRASH;
#define KILL(label) if :: crash > 0 -> crash--; goto label :: skip fi
#else
#define KILL(label) skip
#endif
#ifdef THROTTLED
byte throttled = THROTTLED;
#endif
#ifdef TIMEOUTS
byte timeouts = TIMEOUTS;
#endif
#ifdef EXHAUSTED
byte exhausted = EXHAUSTED;
#endif
#ifdef TWICE
byte twice = TWICE;
#endif

/* the guards that are conditions */
#ifdef NO_OWN_CONNECTION
#define mine(c)    true
#else
#define mine(c)    connectionId == c
#endif
#ifdef NO_CANCELLED_IN_DELIVERED
#define fileKept   !without
#else
#ifdef NO_ENDED_IN_DELIVERED
#define fileKept   !cancelled
#else
#define fileKept   (!cancelled && !without)
#endif
#endif
#ifdef NO_LOOK_FOR_CONNECTION
#define noConnectionInWait true
#else
#define noConnectionInWait connectionId == NOBODY
#endif
#ifdef NO_LAST_LOOK
#define noConnectionInExpiry true
#else
#define noConnectionInExpiry connectionId == NOBODY
#endif
#ifdef NO_CANCELLED_IN_WAIT
#define notCancelledInWait true
#else
#define notCancelledInWait !cancelled
#endif
#ifdef NO_CANCELLED_IN_WAIT_UNTIL
#define notCancelledInWaitUntil true
#else
#define notCancelledInWaitUntil !cancelled
#endif
#ifdef NO_CANCELLED_IN_EXPIRY
#define notCancelledInExpiry true
#else
#define notCancelledInExpiry !cancelled
#endif

/* Step Functions accepts the first call for a token; a later one, such as a
 * repeated call, gets TaskTimedOut */
inline sendTask(token, a) {
	atomic { if :: token == open -> open = 0; answer = a :: else fi }
}

inline removeToken(token) {        /* Table.answered */
	atomic { if :: exists && taskToken == token -> taskToken = 0 :: else fi }
}

/* Table.leave. Guard 4: only connection c. */
inline leave(c) {
	done = false;
leaving:
	done = false;
	atomic {
		if
		:: exists && mine(c) && status != DELIVERED -> connectionId = NOBODY; done = true; REPEAT(leaving)
		:: else
		fi
	}
	if
	:: done -> done = false
	:: else ->
		atomic { if :: exists && connectionId == c && status == DELIVERED -> exists = false :: else fi }
		if :: exists && connectionId == c -> goto leaving :: else fi   /* it was early */
	fi
}

/* $connect of connection c */
#define c (_pid+1)
active [NC] proctype OnConnect() {
	byte token; mtype s; bool known, done;
	socket[c] != NONE;
again:
	atomic {                       /* Connect. Guard 1, one half: write and read in one step */
		known = exists; s = status; last = c;
		if
		:: known ->
			connectionId = c;
#ifdef NO_LOOK_FOR_TOKEN
			token = 0;
#else
			token = taskToken;
#endif
			REPEAT(again)
		:: else
		fi;
		KILL(refused)
	}
	if
	:: known && token != 0 ->
#ifdef THROTTLED
		if
		:: atomic { throttled > 0 -> throttled-- };
		   if :: skip :: sendTask(token, SUCCEEDED) fi;
		   leave(c);
		   goto refused
		:: skip
		fi;
#endif
		REPEATED(resume)
		atomic { sendTask(token, SUCCEEDED); REPEAT(resume); KILL(refused) }
		removeToken(token)
	:: else
	fi;
	atomic {
		if
		:: !known && !object -> goto refused
		:: else ->
#ifndef NO_DELIVERY_AFTER_THE_END
			start[c] = (!known || ENDED(s))
#endif
		fi;
		if :: socket[c] == OPENING -> socket[c] = OPEN :: else fi;
		known = false; token = 0; s = 0;
		goto finished
	};
refused:
	atomic { if :: socket[c] == OPENING -> socket[c] = REFUSED :: else -> socket[c] = VANISHED fi; known = false; token = 0; s = 0 };
finished:
	skip
}
#undef c

/* $disconnect of connection c, early or late */
#define c (_pid+1-NC)
active [NC] proctype OnDisconnect() {
	bool done;
	socket[c] == CLOSED;
	leave(c)
}
#undef c

/* The deliver machine: Table.Deliver and the retries around it. */
#define k (_pid+1-2*NC)
#define result(r) if :: k == OWN -> delivery = r :: else fi; c = 0; s = 0; known = false; done = false; goto idle
active [NC+3] proctype Deliver() {
	byte c; mtype s; bool known, done;
idle:
	atomic { start[k] -> start[k] = false };
again:
	atomic {                       /* Current */
		known = exists; s = status;
		if
		:: known -> c = connectionId
		:: !known && k <= NC -> c = k       /* fallback: the client that on-connect saw */
		:: else -> c = NOBODY
		fi;
		if :: known && cancelled && !ENDED(s) -> goto stopped_by_cancel :: else fi;
		if
		:: c == NOBODY && known -> goto gone
		:: c != NOBODY && known && k <= NC && c != k -> goto succeeded   /* it has its own delivery */
		:: c != NOBODY && known && k > NC && s == DELIVERED -> goto succeeded   /* this too, or it was notified */
#ifdef NO_DELIVERED_WHEN_UNKNOWN
		:: c == NOBODY && !known -> goto gone
#else
		:: c == NOBODY && !known -> goto succeeded
#endif
		:: else
		fi
	}
	if
	:: atomic { c == BY_REQUEST -> skip }
	:: atomic { c != BY_REQUEST && socket[c] == OPEN ->
			notified[c] = true; links = (links || !WITHOUT(s));
			REPEAT(again);         /* applied, but regarded as failed */
			KILL(again);
			if :: !known || WITHOUT(s) -> goto succeeded :: else fi }
#ifdef NO_HANDSHAKE
	:: atomic { c != BY_REQUEST && socket[c] == OPENING -> goto dead }
#else
	/* Guard 2: the 410 of a young connection is ErrOpening, to be tried again */
	:: atomic { c != BY_REQUEST && exists && connectionId != c && socket[c] == OPENING -> goto again }
#ifdef EXHAUSTED
	:: atomic { k == OWN && exhausted > 0 && c != BY_REQUEST && socket[c] == OPENING ->
			exhausted--; result(STILL_OPENING) }
#endif
#endif
	:: atomic { c != BY_REQUEST && shut(c) -> goto dead }
	fi;
	if :: WITHOUT(s) -> goto succeeded :: else fi;

	REPEATED(delivered)                    /* Table.delivered */
	atomic {
		if
		:: c == BY_REQUEST && exists && connectionId == c && fileKept ->
			exists = false; links = true; REPEAT(delivered); KILL(again); goto succeeded
		:: c != BY_REQUEST && exists && connectionId == c && fileKept ->
			status = DELIVERED; taskToken = 0; REPEAT(delivered); KILL(again); goto succeeded
		:: c == BY_REQUEST && !(exists && connectionId == c && fileKept) -> goto look
		:: else
		fi
	}
#ifndef NO_DELETE_WHEN_CLOSED
	/* it got the link and closed before the item was marked */
	REPEATED(closed)
	atomic {
		if
		:: exists && connectionId == NOBODY && fileKept -> exists = false; REPEAT(closed); KILL(again); goto succeeded
		:: else
		fi
	}
#endif
	goto look;

dead:
	if :: !known -> goto gone :: else fi;
	/* Guard 3: gone means wait again, without that connection */
#ifdef NO_WAIT_AGAIN
	goto succeeded;
#endif
#ifdef NO_LEAVE_AT_410
	atomic { if :: exists && connectionId == c -> connectionId = NOBODY :: else fi };
#else
	leave(c);
#endif

look:                              /* Table.recheck: a condition failed; read the item again */
	atomic {
		KILL(again);
		if
		:: !exists -> goto succeeded
		:: exists && cancelled && running -> goto stopped_by_cancel
		:: exists && !(cancelled && running) && connectionId == NOBODY -> goto gone
		:: else ->
#ifdef NO_OPENING_WHEN_REPLACED
			goto succeeded
#else
			goto again
#endif
		fi
	}
gone:
	atomic { result(GONE) }
stopped_by_cancel:
#ifdef NO_CANCELLED_FROM_DELIVER
	atomic { result(GONE) }
#else
	atomic { result(CANCELLED) }
#endif
succeeded:
	atomic { result(SUCCEEDED) }
}
#undef k

/* A client drops and returns at any time, drops for good when it has no try left, or stays. */
#ifdef VANISH
#define drop if :: socket[c] = CLOSED :: socket[c] = VANISHED fi
#else
#define drop socket[c] = CLOSED
#endif
active [CLIENTS] proctype Client() {
	byte c;
again:
	atomic {
		if :: tries < NC -> tries++; c = tries; socket[c] = OPENING :: else -> goto finished fi
	}
	if
	:: atomic { socket[c] == REFUSED -> goto again }
	:: atomic { socket[c] == OPEN -> if :: goto finished :: drop fi }
	:: atomic { socket[c] == OPENING -> drop }
	fi;
	goto again;
finished:
	skip
}

/* asl/download.asl.json from the end of the copy on */
active proctype Workflow() {
	byte token, c; bool known, done;
	bool final;                    /* the wait's condition will never hold again: a delivery must end this, not wait again */
	{
	skip;
Copy_the_file:
#ifdef LATER
	atomic {                       /* SetPlace and WaitUntil, by the worker */
		if
		:: exists && status == COPYING && notCancelledInWaitUntil -> waits = true
		:: else -> goto It_was_cancelled
		fi
	}
	/* Wait for the origin. Nobody waits for the end of a cancelled one: it has to be stopped. */
	atomic { waits && !cancelled -> waits = false };
#endif
	if
	:: object = true;
	   atomic {                    /* Copied */
		if
		:: exists && status == COPYING && !cancelled -> status = READY; DROP_COPIED
		:: else -> goto It_was_cancelled
		fi
	   }
#ifdef FAILS
	:: goto Note_the_failure       /* the origin failed */
#endif
	fi;

Wait_for_the_client:
	atomic { token++; open = token; answer = NONE };
	REPEATED(write)
	atomic {
		/* Guard 1, the other half: no token if a client is connected. Why the condition
		 * failed is for the delivery to find out: a client, a cancel, or no item. Only a
		 * delivery deletes an item, so the client has its link then. */
		if
		:: exists && noConnectionInWait && notCancelledInWait -> taskToken = token; REPEAT(write)
		:: else ->
			final = (!exists || cancelled);
			if :: open == token -> open = 0; goto Send_the_link :: else fi
		fi;
		waiting = true
	}
	if
	:: atomic { open != token -> waiting = false }
#ifdef TIMEOUTS
	:: atomic { timeouts > 0 && open == token -> timeouts--; waiting = false; open = 0; answer = TIMED_OUT }
#endif
	fi;
	if
	:: answer == SUCCEEDED -> goto Send_the_link
	:: answer == CANCELLED -> goto Note_the_failure
	:: answer == TIMED_OUT
	fi;

	REPEATED(Note_the_expiry)
	atomic {
		/* the last look: a client that connected at the time-out is served */
		if
		:: exists && noConnectionInExpiry && notCancelledInExpiry ->
			status = EXPIRED; taskToken = 0; REPEAT(Note_the_expiry); end = EXPIRED; goto finished
		:: else -> goto Send_the_link
		fi
	}

Send_the_link:
	atomic {
		delivery = NONE; start[OWN] = true;
#ifdef TWICE
		if :: twice > 0 -> twice--; start[DOUBLE] = true :: skip fi
#endif
	}
	if
	:: atomic { delivery == SUCCEEDED -> end = DELIVERED; goto finished }
	:: delivery == GONE -> assert(!final); goto Wait_for_the_client
	:: delivery == CANCELLED -> goto It_was_cancelled
#ifdef NO_WAIT_AFTER_OPENING
	:: delivery == STILL_OPENING -> end = FAILED; goto finished
#else
	:: delivery == STILL_OPENING -> goto Wait_for_the_client
#endif
	fi;

It_was_cancelled:
Note_the_failure:
	skip;
	atomic {                       /* End; an outcome that was noted before stays */
		if
		:: exists && running -> status = (cancelled -> CANCELLED : FAILED); taskToken = 0; REPEAT(Note_the_failure)
		:: else
		fi;
		c = (exists -> connectionId : NOBODY)
	}
	if :: exists && without -> DROP_ENDED :: else fi;
	atomic { if :: !exists || without -> object = false :: else fi }
	if
	:: c != NOBODY ->
Report_the_failure:
		atomic { delivery = NONE; start[OWN] = true };
		delivery != NONE
	:: else
	fi;
How_did_it_end:
	end = (status == CANCELLED -> CANCELLED : FAILED);
finished:
	atomic { c = 0; answer = NONE; delivery = NONE; final = false }
	} unless { stopped }
}

#ifdef CANCEL
/* DELETE /executions/{name}, or {"action":"cancel"}; repeated if there was no answer */
active proctype Cancel() {
	byte token;
#ifdef LATER
	bool waiting_for_origin;
#endif
again:
	skip;
	atomic {
		if
		:: exists && running ->
			cancelled = true; token = taskToken;
#ifdef LATER
			waiting_for_origin = (status == COPYING && waits);
#endif
			REPEAT(again); KILL(again)
		:: else -> goto finished                        /* 409 or 404 */
		fi
	}
	if
	:: token != 0 ->
#ifndef NO_FAILING_THE_WAIT
		REPEATED(fail)
		atomic { sendTask(token, CANCELLED); REPEAT(fail); KILL(again) }
#endif
		removeToken(token)
	:: else
	fi;
#ifdef LATER
#ifndef NO_STOP_BY_CANCEL
	atomic { stop = waiting_for_origin; KILL(again) };
#endif
#endif
	accepted = true;
finished:
	skip
}
#endif

#ifdef REQUEST
/* GET /executions/{name}, asked again until it is answered */
active proctype Request() {
	byte token; bool done;
again:
	atomic {
		!exists || status != COPYING;
		if :: exists && status == READY :: else -> goto finished fi
	}
	REPEATED(connect)
	atomic {
		/* a request doesn't displace a socket, which gets more messages */
		if
		:: exists && connectionId == NOBODY ->
			connectionId = BY_REQUEST; token = taskToken; REPEAT(connect); KILL(again)
#ifndef NO_REQUEST_TWICE
		:: exists && connectionId == BY_REQUEST -> token = taskToken; REPEAT(connect); KILL(again)
#endif
		:: else -> links = true; goto finished
		fi
	}
	if
	:: token != 0 ->
#ifdef THROTTLED
		if
		:: atomic { throttled > 0 -> throttled-- };
		   if :: skip :: sendTask(token, SUCCEEDED) fi;
		   leave(BY_REQUEST);
		   goto again
		:: skip
		fi;
#endif
		REPEATED(resume)
		atomic { sendTask(token, SUCCEEDED); REPEAT(resume); KILL(again) }
		removeToken(token)
	:: else
	fi;
	links = true;
finished:
	served = true
}
#endif

#if defined(STOP) || defined(LATER) && defined(CANCEL)
/* StopExecution, and clean-up by EventBridge's event */
active proctype CleanUp() {
	bool done;
#ifdef STOP
#define mayStop true
#else
#define mayStop stop
#endif
	atomic { mayStop && end == NONE -> stopped = true; open = 0; waiting = false; end = CANCELLED };
	atomic {
		if
		:: exists && running -> status = CANCELLED; taskToken = 0; done = true
#ifndef NO_NOTIFYING_TWICE
		:: exists && without -> done = true     /* the workflow may have been stopped before it notified the client */
#endif
		:: else
		fi;
		if :: done && connectionId != NOBODY -> start[LAST] = true :: else fi
	}
	if :: exists && without -> DROP_ENDED :: else fi;
	if :: exists && without -> object = false :: else fi
}
#endif

/* Checks the outcome when no other process can continue. */
active proctype Verdict() {
	timeout ->
	/* The link is not lost: the last connection, if still open, got the outcome. */
	assert(last == NOBODY || socket[last] != OPEN || notified[last]);
	/* The execution has ended, or waits with its token in the item. */
	assert(end != NONE || waiting);
	if
	:: waiting ->
		/* Where the item has ended (a repeated Note the expiry, a double delivery), a
		 * client is served by its own delivery, and the wait just times out. */
		assert(!exists || ENDED(status) || !cancelled && taskToken == open && open != 0);
		assert(connectionId == NOBODY || ENDED(status) || connectionId != BY_REQUEST && socket[connectionId] != OPEN && socket[connectionId] != CLOSED)
#if NC == 1 && !defined(LOST) && !defined(CRASH) && !defined(REQUEST) && !defined(TWICE)
		/* and not for a client that already has its link */
		assert(!links)
#endif
	:: else
	fi;
	/* The execution's end matches the download's outcome. */
	assert(end != DELIVERED || links);
	assert(!accepted || end == CANCELLED || end == FAILED);
	assert(!accepted || !object);
	assert(!exists || status != DELIVERED || object);
	assert(end != CANCELLED && end != FAILED || !object || stopped && !(exists && without));
#ifdef REQUEST
	assert(served);
#endif
#ifdef LATER
	/* The request item is gone: the copy has ended, and the client may be waited for. */
	assert(!request);
#endif
	/* Only items that expire by TTL are left: waiting, failed, or without a $disconnect. */
	assert(!exists || status == READY && waiting || without || status == EXPIRED ||
	       status == DELIVERED && connectionId != NOBODY && socket[connectionId] != CLOSED)
}
