# The app of a real Sidekiq process for the tests: sidekiq -r app.rb -q QUEUE ..., REDIS_URL in the environment.
require "sidekiq"
require "sidekiq/launcher"
require "sidekiq/scheduled"

# The tests do not wait for beats of five seconds, for polls of fifteen, and for the first poll.
Sidekiq::Launcher.send(:remove_const, :BEAT_PAUSE)
Sidekiq::Launcher::BEAT_PAUSE = 0.5
Sidekiq.options[:poll_interval_average] = 0.2
Sidekiq::Scheduled::Poller.class_eval { private def initial_wait = nil }
Redis.silence_deprecations = true if Redis.respond_to?(:silence_deprecations=)
Sidekiq.logger.level = Logger::FATAL
# A process that a test holds waits for its answers, and polls only when it is told to.
if ENV["HELD"]
  Sidekiq.configure_server { |config| config.redis = {url: ENV["REDIS_URL"], timeout: 600} }
  Sidekiq::Scheduled::Poller.class_eval { def start; end }
end

# Counts each run under the name it is given; "fail" fails, "slow" takes a while, "hold" until there is a key `go`.
class Mark
  include Sidekiq::Worker
  sidekiq_options retry: 25

  def perform(name, how = nil, *)
    Sidekiq.redis { |redis| redis.hincrby("runs", name, 1) }
    raise ArgumentError, "cannot #{name}" if how == "fail"
    sleep 0.02 if how == "slow"
    sleep 0.01 until how != "hold" || Sidekiq.redis { |redis| redis.get("go") }
  end
end

# Takes so many milliseconds, and adds when it ended, whether it failed, and its seconds, to the list `ended`.
class Take
  include Sidekiq::Worker

  def perform(ms, fail)
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    sleep ms / 1000.0
    took = Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
    Sidekiq.redis { |redis| redis.rpush("ended", [Time.now.to_f, fail ? 1 : 0, took].to_json) }
    raise ArgumentError, "no such template" if fail
  end
end
