// node-postgres against a running server: node check.js URL
import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

const started = new Date('2026-03-01T06:30:00.123Z');

const checks = {
  async 'values come back as they were'(client) {
    await client.query('INSERT INTO flight VALUES ($1, $2, $3, $4, $5, $6, $7)',
      [1, "Akka 'of' Kebnekaise ö", true, 8848.25, Buffer.from([0, 1, 255]), '1234567890.10', started]);
    const { rows } = await client.query('SELECT * FROM flight WHERE id = $1', [1]);
    assert.deepEqual(rows, [{
      id: '1', name: "Akka 'of' Kebnekaise ö", leader: true, height: 8848.25, cargo: Buffer.from([0, 1, 255]),
      price: '1234567890.10', started, legs: null,
    }]);
  },

  async 'values of every type'(client) {
    const at = new Date('2024-02-29T10:00:00.001Z');
    for (const [type, sent, expected = sent] of [
      ['int2', -5], ['int8', '9007199254740993'], ['float8', 1.5e300], ['numeric', '-0.000100'], ['bool', false], ['text', ''], ['bytea', Buffer.from([0, 255])],
      ['timestamptz', at], ['uuid', '6ba7b810-9dad-11d1-80b4-00c04fd430c8'], ['date', '2024-02-29', new Date(2024, 1, 29)], ['time', '23:59:59.5'],
      ['jsonb', { a: [1, true, null] }], ['json', { b: 2.5 }], ['int[]', [1, null, 3]], ['text[]', ['a b', 'c"d', null, '']], ['bool[]', [true, false]],
    ]) {
      const { rows } = await client.query(`SELECT $1::${type} AS v`, [sent]);
      assert.deepEqual(rows[0].v, expected, type);
    }
    const { rows } = await client.query('SELECT count(*)::int AS n FROM flight WHERE id = ANY($1)', [[1, 2]]);
    assert.deepEqual(rows, [{ n: 1 }]);
  },

  async 'named statements'(client) {
    for (let i = 0; i < 3; i++) {
      const { rows } = await client.query({ name: 'by-id', text: 'SELECT height FROM flight WHERE id = $1', values: [1] });
      assert.deepEqual(rows, [{ height: 8848.25 }]);
    }
  },

  async 'several statements in one text'(client) {
    const results = await client.query('SELECT 1 AS one; SELECT 2 AS two');
    assert.deepEqual(results.map((r) => r.rows), [[{ one: 1 }], [{ two: 2 }]]);
  },

  async 'errors carry their fields'(client) {
    await assert.rejects(client.query('INSERT INTO flight (id) VALUES ($1)', [1]),
      { code: '23505', constraint: 'flight_pkey', table: 'flight' });
    await assert.rejects(client.query('SELECT * FROM swan'), { code: '42P01' });
    await assert.rejects(client.query('INSERT INTO flight (name) VALUES ($1)', ['x']), { code: '23502', column: 'id', table: 'flight' });
    await assert.rejects(client.query('SELECT $1::int', ['x']), { code: '22P02' });
  },

  async transactions(client) {
    await client.query('BEGIN');
    const { rowCount } = await client.query('INSERT INTO flight (id) VALUES (2), (3)');
    assert.equal(rowCount, 2);
    await client.query('ROLLBACK');
    const { rows } = await client.query('SELECT count(*) FROM flight');
    assert.deepEqual(rows, [{ count: '1' }]);
  },

  async 'copy in and out'(client) {
    const lines = Array.from({ length: 1000 }, (_, i) => `${i + 1000}\tgoose ${i}\n`);
    await pipeline(Readable.from(lines), client.query(copyFrom('COPY flight (id, name) FROM STDIN')));
    let text = '';
    for await (const chunk of client.query(copyTo('COPY (SELECT id, name FROM flight WHERE id >= 1000 ORDER BY id) TO STDOUT'))) {
      text += chunk;
    }
    assert.equal(text, lines.join(''));
  },

  async 'a cursor'(client) {
    const cursor = client.query(new Cursor('SELECT id FROM flight WHERE id >= $1 ORDER BY id', [1000]));
    let seen = 0;
    for (let rows = await cursor.read(300); rows.length > 0; rows = await cursor.read(300)) seen += rows.length;
    await cursor.close();
    assert.equal(seen, 1000);
  },
};

const url = process.argv[2];
const client = new pg.Client({ connectionString: url });
await client.connect();
await client.query('DROP TABLE IF EXISTS flight');
await client.query(`CREATE TABLE flight (id bigint PRIMARY KEY, name text, leader boolean, height double precision,
  cargo bytea, price numeric(12,2), started timestamptz, legs int)`);
for (const [name, check] of Object.entries(checks)) {
  await check(client);
  console.log('  ok', name);
}
await client.end();

const pool = new pg.Pool({ connectionString: url, max: 5 });
const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => pool.query('SELECT $1::int AS n', [i])));
assert.deepEqual(answers.map((a) => a.rows[0].n), Array.from({ length: 50 }, (_, i) => i));
await pool.end();
console.log('  ok a pool');
