// The policy in Express, with pino for the line of each call.
import { randomUUID, timingSafeEqual } from 'node:crypto'
import express from 'express'
import pino from 'pino'

const [port, audit] = process.argv.slice(2)
const log = pino(pino.destination({ dest: audit, sync: true }))
const expected = Buffer.from('pexip:' + process.env.PEER_PASSWORD)

const secrets = new Set(['third_party_passcode'])
const rooms = new Map([
  ['engineering', { name: 'Engineering Room', service_tag: 'engineering-room' }],
  ['sales', { name: 'Sales Room', service_tag: 'sales-room' }]
])

function authorised (header = '') {
  const given = Buffer.from(header.slice('Basic '.length), 'base64')
  return given.length === expected.length && timingSafeEqual(given, expected)
}

function decide (alias) {
  const name = alias.toLowerCase().replace(/^sip:/, '').split('@')[0]
  const room = rooms.get(name) ?? { name: `Default Room - ${name}`, service_tag: 'default-room' }
  return {
    status: 'success',
    action: 'continue',
    result: { service_type: 'conference', ...room },
    decision_id: randomUUID()
  }
}

function shown (query) {
  const entries = Object.entries(query)
  return Object.fromEntries(entries.filter(([name, value]) => value && !secrets.has(name)))
}

const app = express()
app.get('/policy/v1/service/configuration', (request, response) => {
  const began = performance.now()
  if (!authorised(request.get('authorization'))) {
    response.status(401).end()
    return
  }
  const query = request.query
  const answer = decide(query.local_alias ?? '')
  log.info({
    decision_id: answer.decision_id,
    endpoint: 'service_configuration',
    peer: request.ip,
    request: shown(query),
    decided_by: 'rooms',
    action: answer.action,
    status: 200,
    sent: answer.result,
    ms: performance.now() - began
  }, 'decision')
  response.json(answer)
})
app.listen(Number(port), '127.0.0.1')
