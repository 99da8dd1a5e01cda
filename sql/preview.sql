-- What a message is made of, without claiming it (SPEC section 9). No destination is read. What a message
-- says comes from event_rows and digest_contents, as for a send.

-- name: previewed_delivery
-- A delivery's event, and the digest that the delivery went into.
--   $1 delivery_id int8
-- returns: PreviewedDelivery, many
-- again: safe; reads only
SELECT d.id::int8 AS id, d.alert_event_id::int8 AS event_id, d.channel, d.delivery_kind AS kind,
       i.digest_id::int8 AS digest_id, d.user_id::int8 AS user_id,
       coalesce(d.reasons, w.reasons)::text AS reasons
  FROM user_alert_deliveries AS d
  LEFT JOIN user_alert_digest_items AS i ON i.delivery_id = d.id
 CROSS JOIN LATERAL alert_reasons_for(d.user_id::int8, ARRAY[d.alert_event_id::int8]) AS w
 WHERE d.id = $1::int8
   AND d.channel <> 'account';

-- name: previewed_digest
-- The channel that a digest is meant for.
--   $1 digest_id int8
-- returns: PreviewedDigest, many
-- again: safe; reads only
SELECT g.id::int8 AS id, g.channel, g.user_id::int8 AS user_id,
       coalesce(g.reasons, w.reasons)::text AS reasons
  FROM user_alert_digests AS g
 CROSS JOIN LATERAL alert_reasons_for(g.user_id::int8, ARRAY(
       SELECT d.alert_event_id::int8
         FROM user_alert_digest_items AS i
         JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
        WHERE i.digest_id = g.id
 )) AS w
 WHERE g.id = $1::int8;
