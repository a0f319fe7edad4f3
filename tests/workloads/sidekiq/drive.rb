# Drives a real Sidekiq from the tests: ruby drive.rb COMMAND REDIS_URL QUEUE [GOOD BAD [hidden]]; answers one line of JSON.
require "json"
require "securerandom"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/launcher"
require "sidekiq/fetch"
require "sidekiq/scheduled"

COMMAND, URL, QUEUE, GOOD, BAD, HIDDEN = ARGV
Sidekiq.configure_client { |config| config.redis = {url: URL} }
Sidekiq.configure_server { |config| config.redis = {url: URL} }
Sidekiq.logger.level = Logger::FATAL

class Mail
  include Sidekiq::Worker

  def perform(options)
    raise ArgumentError, "cannot send to #{options["to"]}" if options["fail"]
  end
end

class Hold
  include Sidekiq::Worker

  def perform(*)
    sleep
  end
end

def push(queue, fail: false, retries: 5, klass: Mail, at: nil, dead: true)
  item = {
    "class" => klass, "queue" => queue, "retry" => retries, "backtrace" => true,
    "args" => [{"to" => "anna@example.com", "fail" => fail}]
  }
  item["at"] = at if at
  item["dead"] = false unless dead
  Sidekiq::Client.push(item)
end

# Runs a process on the queue until the block answers true.
def work(queue)
  launcher = Sidekiq::Launcher.new(Sidekiq.options.merge(queues: [queue], concurrency: 4, timeout: 5, strict: true))
  launcher.run
  sleep 0.05 until yield
  launcher
end



def counts(queue)
  if queue == "*"
    {"scheduled" => Sidekiq::ScheduledSet.new.size, "retry" => Sidekiq::RetrySet.new.size, "dead" => Sidekiq::DeadSet.new.size}
  else
    busy = Sidekiq::Workers.new.count { |_, _, work| work["queue"] == queue }
    {"enqueued" => Sidekiq::Queue.new(queue).size, "busy" => busy}
  end
end

def fill
  # One job dies, one will be tried again, one is being run by a process that then is gone without a word.
  push("alpha", fail: true, retries: 0)
  push("alpha", fail: true, retries: 5)
  push("beta", fail: true, retries: 0)
  work("beta") { Sidekiq::DeadSet.new.size == 1 }.stop
  launcher = work("alpha") { Sidekiq::DeadSet.new.size == 2 && Sidekiq::RetrySet.new.size == 1 }
  held = push("alpha", klass: Hold)
  # Not just any job of the queue: the first beat may still tell of one that failed meanwhile.
  sleep 0.05 until Sidekiq::Workers.new.any? { |_, _, work| work["payload"]["jid"] == held }
  launcher.quiet
  # A thread that waits for a job when it is told to be quiet takes one more.
  sleep 0.05 until launcher.manager.workers.size <= 1
  waiting = {"alpha" => Array.new(5) { push("alpha") }, "beta" => Array.new(2) { push("beta") }}
  [3600, 7200].each { |delay| push("alpha", at: Time.now.to_f + delay) }
  push("beta", at: Time.now.to_f + 60)
  ids = {
    "alpha" => {"waiting" => waiting["alpha"], "active" => [held]},
    "beta" => {"waiting" => waiting["beta"], "active" => []},
    "*" => {
      "scheduled" => raw("schedule"), "retrying" => raw("retry"), "dead" => raw("dead")
    }
  }
  {"ids" => ids, "counts" => ids.keys.to_h { |name| [name, counts(name)] }}
end

# `<score>-<jid>` of each member, the score as Redis answers it.
def raw(set)
  Sidekiq.redis do |conn|
    conn.eval("return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')", keys: [set]).each_slice(2).map do |member, score|
      "#{score}-#{JSON.parse(member)["jid"]}"
    end
  end
end

# A job of an hour from now.
def schedule
  {"id" => push(QUEUE, at: Time.now.to_f + 3600)}
end

# How many jobs ended: what beats have told so far, and what the next one of this process will.
def ended
  Sidekiq::Stats.new.processed + Sidekiq::Processor::PROCESSED.instance_variable_get(:@value)
end

def run(good, bad)
  already = ended
  # Jobs that are told not to die leave no trace but the counters.
  jids = Array.new(good) { push(QUEUE) } + Array.new(bad) { push(QUEUE, fail: true, retries: 0, dead: !HIDDEN) }
  dead = Sidekiq::DeadSet.new.size + (HIDDEN ? 0 : bad)
  # A job that still runs when its process is stopped goes back to the queue.
  work(QUEUE) { ended >= already + jids.size && Sidekiq::DeadSet.new.size >= dead }.stop
  {"ended" => jids.size}
end

answer =
  case COMMAND
  when "fill" then fill
  when "schedule" then schedule
  when "run" then run(Integer(GOOD), Integer(BAD))
  when "counts" then counts(QUEUE)
  end
Sidekiq::Launcher.flush_stats if COMMAND == "run"
puts JSON.generate(answer)
$stdout.flush
exit!(0)
