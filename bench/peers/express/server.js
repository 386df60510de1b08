// A peer: an Express view that INCRs a counter in Redis. PORT and REDIS_SOCKET come from the environment.
'use strict';

const express = require('express');
const Redis = require('ioredis');

const HEADERS = {
  Allow: 'POST, OPTIONS',
  'X-Frame-Options': 'DENY',
  Vary: 'origin',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
};

// ioredis' own default is one write a command; AUTO_PIPELINING=on sends those of a turn of the event loop in one.
const redis = new Redis(process.env.REDIS_SOCKET, { enableAutoPipelining: process.env.AUTO_PIPELINING === 'on' });
const app = express();
app.disable('x-powered-by');
app.disable('etag');

app.post('/api/v1/posts/:id/like', async (request, response) => {
  const likes = await redis.incr(`express:likes:${request.params.id}`);
  response.status(202).set(HEADERS).json({ post: Number(request.params.id), likes });
});

app.listen(Number(process.env.PORT), '127.0.0.1');
