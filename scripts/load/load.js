// Load test, by k6: each virtual user asks for a file, opens the socket, takes the link, fetches the file and
// looks at its bytes, over and over. Run by scripts/load.sh; against AWS as against the local stack.
//
//   API_URL    the stack's REST API       FILE_PATH  what is asked for
//   SCENARIO   ramp, spike, soak, large   SHA256     what the file's bytes must have; not looked at if empty
//   USERS      at once (40)               DURATION   of ramp and soak (5m)
import crypto from 'k6/crypto';
import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

const users = Number(__ENV.USERS || 40);
const duration = __ENV.DURATION || '5m';
const scenarios = {
  // More and more users, then all of them for a while.
  ramp: { executor: 'ramping-vus', startVUs: 1, stages: [{ duration, target: users }, { duration: '30s', target: users }] },
  // Every user has a download wait for him; then all connect in the same second.
  spike: { executor: 'per-vu-iterations', vus: users, iterations: 1, maxDuration: '5m' },
  // The same number of users all the time.
  soak: { executor: 'constant-vus', vus: users, duration },
  // Few users, a large file.
  large: { executor: 'per-vu-iterations', vus: 2, iterations: 2, maxDuration: '30m' },
};
const scenario = __ENV.SCENARIO || 'soak';

const delivered = new Counter('delivered');
const lost = new Counter('lost'); // no link, or an end without one
const doubled = new Counter('doubled'); // a second link on one socket
const wrong = new Counter('wrong'); // other bytes than the origin's
const refused = new Counter('refused'); // GET or handshake not accepted; asked again
const toLink = new Trend('get_to_link', true);
const connectToLink = new Trend('connect_to_link', true);

export const options = {
  scenarios: { [scenario]: scenarios[scenario] },
  thresholds: {
    lost: ['count == 0'],
    doubled: ['count == 0'],
    wrong: ['count == 0'],
    delivered: ['count > 0'],
    get_to_link: [`p(95) < ${__ENV.P95_MS || 10000}`],
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'max'],
};

// The spike's moment is the same for all users.
export function setup() {
  return { spike: Date.now() + 15000 };
}

export default function (data) {
  const start = Date.now();
  const answer = http.get(`${__ENV.API_URL}/download/${__ENV.FILE_PATH || ''}`, { tags: { name: 'GET /download' } });
  if (answer.status !== 200) {
    refused.add(1);
    sleep(1);
    return;
  }
  if (scenario === 'spike') {
    sleep(Math.max(0, (data.spike - Date.now()) / 1000));
  }
  connect(answer.json('webSocketUrl') + '&format=json', start, 0);
}

// connect takes one link. A handshake that is refused, as under load, is tried again, as every client does.
function connect(url, start, tries) {
  const dialled = Date.now();
  const socket = new WebSocket(url);
  let opened = false;
  let links = 0;
  const late = setTimeout(() => {
    lost.add(1);
    socket.close();
  }, 120000);
  socket.onopen = () => {
    opened = true;
  };
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.type === 'progress') {
      return;
    }
    clearTimeout(late);
    if (event.type !== 'ready') {
      lost.add(1);
      console.error(`${event.code}: ${event.message}`);
      socket.close();
      return;
    }
    links++;
    if (links > 1) {
      doubled.add(1);
      return;
    }
    toLink.add(Date.now() - start);
    connectToLink.add(Date.now() - dialled);
    const file = http.get(event.url, { responseType: 'binary', tags: { name: 'GET link' } });
    if (file.status !== 200 || file.body.byteLength !== event.size || (__ENV.SHA256 && crypto.sha256(file.body, 'hex') !== __ENV.SHA256)) {
      wrong.add(1);
    }
    delivered.add(1);
    setTimeout(() => socket.close(), 500); // in which a second link would come
  };
  socket.onerror = () => {
    if (opened) {
      return;
    }
    clearTimeout(late);
    refused.add(1);
    if (tries < 10) {
      setTimeout(() => connect(url, start, tries + 1), 1000 + Math.random() * 1000);
    } else {
      lost.add(1);
    }
  };
}

export function handleSummary(data) {
  const count = (name) => (data.metrics[name] ? data.metrics[name].values.count : 0);
  const trend = (name) => {
    const m = data.metrics[name];
    return m ? `median ${Math.round(m.values.med)} ms, 95 % within ${Math.round(m.values['p(95)'])} ms, slowest ${Math.round(m.values.max)} ms` : 'none';
  };
  const seconds = data.state.testRunDurationMs / 1000;
  const failed = Object.entries(data.metrics).filter(([, m]) => Object.values(m.thresholds || {}).some((t) => !t.ok));
  return {
    stdout: [
      `${scenario}: ${users} users, ${seconds.toFixed(0)} s`,
      `  delivered        ${count('delivered')} downloads, ${(count('delivered') / seconds).toFixed(1)} a second`,
      `  lost             ${count('lost')}`,
      `  doubled          ${count('doubled')}`,
      `  wrong bytes      ${count('wrong')}`,
      `  refused at first ${count('refused')} (and asked again)`,
      `  GET to link      ${trend('get_to_link')}`,
      `  connect to link  ${trend('connect_to_link')}`,
      failed.length ? `  NOT MET: ${failed.map(([name]) => name).join(', ')}` : '  every threshold is met',
      '',
    ].join('\n'),
  };
}
