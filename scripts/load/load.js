// Load test with k6. Each virtual user repeatedly requests a file, opens the socket or waits by plain HTTP for the link,
// fetches the file, and checks its bytes. scripts/load.sh runs it, against the local stack or AWS.
//
//   API_URL    the stack's REST API          FILE_PATH  path to request; k6 keeps the file in memory
//   SCENARIO   ramp, spike, soak, large: by socket; http   SHA256  expected SHA-256; if empty, only the size is checked
//   USERS      concurrent users (40)         DURATION   of ramp, soak, and http (5m)
//   P95_MS     limit of the 95th percentile  LATE_MS    when a link counts as lost (120000)
import crypto from 'k6/crypto';
import exec from 'k6/execution';
import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

const scenario = __ENV.SCENARIO || 'soak';
const users = Number(__ENV.USERS || (scenario === 'large' ? 2 : 40));
const duration = __ENV.DURATION || '5m';
const lateMs = Number(__ENV.LATE_MS || 120000);
// All users connect at the same time, late enough for every execution to be waiting by then.
const spikeAfterMs = Number(__ENV.SPIKE_AFTER_MS || 15000);
const tries = 10; // of a request that is refused under load, as clients do

// No user is stopped in the middle, so that a link that never comes is counted.
const gracefulStop = `${lateMs + 60000}ms`;
const scenarios = {
  // An increasing number of users, then all of them for a while.
  ramp: {
    executor: 'ramping-vus', startVUs: 1, gracefulStop, gracefulRampDown: gracefulStop,
    stages: [{ duration, target: users }, { duration: '30s', target: users }],
  },
  // Each user starts a download that waits; then all connect in the same second.
  spike: { executor: 'per-vu-iterations', vus: users, iterations: 1, maxDuration: '5m', gracefulStop },
  // A constant number of users.
  soak: { executor: 'constant-vus', vus: users, duration, gracefulStop },
  // A constant number of users without sockets: GET with Prefer: wait=20 and an Idempotency-Key, repeated until the file is ready.
  http: { executor: 'constant-vus', vus: users, duration, gracefulStop },
  // A few users and a large file.
  large: { executor: 'per-vu-iterations', vus: users, iterations: 2, maxDuration: '30m', gracefulStop },
};
if (!scenarios[scenario]) {
  throw new Error(`there is no SCENARIO ${scenario}; they are: ${Object.keys(scenarios).join(', ')}`);
}
// In a spike, the time since GET is mostly the wait for the spike.
const [judged, p95] = { spike: ['connect_to_link', 10000], large: ['get_to_link', 60000] }[scenario] || ['get_to_link', 10000];

const asked = new Counter('asked'); // downloads
const delivered = new Counter('delivered'); // with the origin's bytes
const lost = new Counter('lost'); // no link, or an error instead
const doubled = new Counter('doubled'); // a second link on one socket, or a second download for one key
const wrong = new Counter('wrong'); // bytes that differ from the origin's
const refused = new Counter('refused'); // GET or handshake refused, then repeated
const notReady = new Counter('not_ready'); // a GET that waited in vain, then repeated
const toLink = new Trend('get_to_link', true);
const connectToLink = new Trend('connect_to_link', true);
const toFile = new Trend('get_to_file', true);

export const options = {
  scenarios: { [scenario]: scenarios[scenario] },
  thresholds: {
    lost: ['count == 0'],
    doubled: ['count == 0'],
    wrong: ['count == 0'],
    delivered: ['count > 0'],
    [judged]: [`p(95) < ${__ENV.P95_MS || p95}`],
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'max'],
};

export function setup() {
  return { spike: Date.now() + spikeAfterMs };
}

export default function (data) {
  asked.add(1);
  const start = Date.now();
  if (scenario === 'http') {
    waitByHttp(start);
    return;
  }
  for (let n = 1; ; n++) {
    const answer = http.get(`${__ENV.API_URL}/download/${__ENV.FILE_PATH || ''}`, { tags: { name: 'GET /download' } });
    if (answer.status === 200) {
      if (scenario === 'spike') {
        sleep(Math.max(0, (data.spike - Date.now()) / 1000));
      }
      connect(answer.json('webSocketUrl') + '&format=json', start, 1);
      return;
    }
    refused.add(1);
    if (n === tries) {
      lose(`GET /download: status ${answer.status}`);
      return;
    }
    sleep(1 + Math.random());
  }
}

function lose(why) {
  lost.add(1);
  console.error(`lost by user ${exec.vu.idInTest}: ${why}`);
}

// waitByHttp is what `curl -fL --retry 999` does, and then asks again with the same key.
function waitByHttp(start) {
  const key = Array.from(new Uint8Array(crypto.randomBytes(16)), (b) => b.toString(16).padStart(2, '0')).join('');
  const get = () => http.get(`${__ENV.API_URL}/download/${__ENV.FILE_PATH || ''}`, {
    headers: { Prefer: 'wait=20', 'Idempotency-Key': key }, redirects: 0, timeout: '60s', tags: { name: 'GET /download' },
  });
  let answer = get();
  for (let n = 1; answer.status !== 303; answer = get()) {
    if (answer.status === 503 && answer.json('error.code') === 'NOT_READY') {
      notReady.add(1);
    } else if (answer.status === 429 || answer.status === 0) {
      refused.add(1);
      n++;
    } else {
      n = Infinity; // failed
    }
    if (n > tries || Date.now() - start > lateMs) {
      lose(`GET /download: status ${answer.status} ${answer.error} after ${Date.now() - start} ms`);
      return;
    }
    sleep(Number(answer.headers['Retry-After'] || 1));
  }
  toLink.add(Date.now() - start);
  check({ url: answer.headers.Location }, start);
  const again = get();
  if (again.status === 303 && again.json('executionArn') !== answer.json('executionArn')) {
    doubled.add(1);
  }
}

// connect waits for one link. A refused handshake is repeated.
function connect(url, start, n) {
  const dialled = Date.now();
  const socket = new WebSocket(url);
  let opened = false;
  let links = 0;
  let ended = false; // lost, or refused and repeated
  const end = (why) => {
    clearTimeout(late);
    if (!ended && links === 0) {
      ended = true;
      lose(why);
    }
    socket.close();
  };
  const late = setTimeout(() => end(`no link ${lateMs} ms after connecting`), lateMs);
  socket.onopen = () => {
    opened = true;
  };
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.type === 'progress') {
      return;
    }
    if (event.type !== 'ready') {
      end(`${event.code}: ${event.message}`);
      return;
    }
    links++;
    if (links > 1) {
      doubled.add(1);
      return;
    }
    clearTimeout(late);
    toLink.add(Date.now() - start);
    connectToLink.add(Date.now() - dialled);
    check(event, start);
    setTimeout(() => socket.close(), 500); // time for a second link to arrive
  };
  socket.onclose = () => {
    if (opened) {
      end('the socket was closed before a link came');
    }
  };
  socket.onerror = (e) => {
    if (opened || ended) {
      return;
    }
    clearTimeout(late);
    ended = true;
    refused.add(1);
    if (n < tries) {
      setTimeout(() => connect(url, start, n + 1), 1000 + Math.random() * 1000);
    } else {
      lose(`the socket didn't open: ${e.error}`);
    }
  };
}

// check counts a download as delivered or as wrong.
function check(event, start) {
  const why = look(event);
  if (why) {
    wrong.add(1);
    console.error(`wrong for user ${exec.vu.idInTest}: ${why}`);
  } else {
    delivered.add(1);
    toFile.add(Date.now() - start);
  }
}

// look fetches the link and returns what is wrong with the file, or ''.
function look(event) {
  const file = http.get(event.url, { responseType: 'binary', tags: { name: 'GET link' }, timeout: '10m' });
  if (file.status !== 200) {
    return `GET link: status ${file.status} ${file.error}`;
  }
  if (event.size !== undefined && file.body.byteLength !== event.size) {
    return `${file.body.byteLength} bytes, not ${event.size}`;
  }
  if (__ENV.SHA256) {
    const sum = crypto.sha256(file.body, 'hex');
    if (sum !== __ENV.SHA256) {
      return `SHA-256 ${sum}`;
    }
  }
  return '';
}

export function handleSummary(data) {
  const count = (name) => (data.metrics[name] ? data.metrics[name].values.count : 0);
  const trend = (name) => {
    const m = data.metrics[name];
    const s = (v) => `${(v / 1000).toFixed(2)} s`;
    return m ? `p50 ${s(m.values.med)}, p95 ${s(m.values['p(95)'])}, slowest ${s(m.values.max)}` : 'none';
  };
  const seconds = data.state.testRunDurationMs / 1000;
  const failed = Object.entries(data.metrics).flatMap(([name, m]) =>
    Object.entries(m.thresholds || {}).filter(([, t]) => !t.ok).map(([rule]) => `${name}: ${rule}`));
  const open = count('asked') - count('delivered') - count('lost') - count('wrong');
  return {
    stdout: [
      `${scenario}: ${users} users, ${seconds.toFixed(0)} s, ${__ENV.API_URL}/download/${__ENV.FILE_PATH || ''}`,
      `  requested        ${count('asked')} downloads`,
      `  delivered        ${count('delivered')}, ${(count('delivered') / seconds).toFixed(1)} per second${__ENV.SHA256 ? ', each with the right SHA-256' : '; no SHA256 was given, only lengths were compared'}`,
      `  lost             ${count('lost')}`,
      `  wrong bytes      ${count('wrong')}`,
      `  duplicates       ${count('doubled')}`,
      ...(open ? [`  cut off          ${open}, by the end of the test`] : []),
      `  refused          ${count('refused')}, then repeated`,
      ...(scenario === 'http' ? [`  not ready        ${count('not_ready')} answers, then repeated`] : []),
      `  GET to link      ${trend('get_to_link')}`,
      ...(scenario === 'http' ? [] : [`  connect to link  ${trend('connect_to_link')}`]),
      `  GET to file      ${trend('get_to_file')}`,
      failed.length ? `  NOT MET          ${failed.join('; ')}` : '  all thresholds met',
      '',
    ].join('\n'),
  };
}
