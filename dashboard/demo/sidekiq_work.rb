# Sidekiq's part of the demo: two queues, a producer and a process of three threads. ruby sidekiq_work.rb REDIS_URL
require "json"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/launcher"
require "sidekiq/fetch"
require "sidekiq/scheduled"

URL = ARGV.fetch(0)
QUEUES = %w[critical low].freeze
Sidekiq.configure_client { |config| config.redis = {url: URL} }
Sidekiq.configure_server { |config| config.redis = {url: URL} }
Sidekiq.logger.level = Logger::FATAL
Warning[:deprecated] = false

# Exit with the demo, which closes the pipe to standard input.
Thread.new do
  $stdin.read
  exit!(0)
end

class ChargeCard
  include Sidekiq::Worker
  sidekiq_options queue: "critical", retry: 4, backtrace: 15

  def perform(order, cents)
    sleep rand(0.05..0.4)
    raise IOError, "gateway closed the connection for order #{order}" if rand < 0.08
    cents
  end
end

class PruneSessions
  include Sidekiq::Worker
  sidekiq_options queue: "low", retry: 0

  def perform(shard)
    sleep rand(0.2..1.5)
    raise ArgumentError, "shard #{shard} is being moved" if rand < 0.04
  end
end

Thread.new do
  loop do
    rand(0..3).times { ChargeCard.perform_async(format("2026-%06d", rand(999_999)), rand(500..90_000)) } if Sidekiq::Queue.new("critical").size < 200
    PruneSessions.perform_async(rand(1..64)) if Sidekiq::Queue.new("low").size < 100
    ChargeCard.perform_in(rand(60..600), "subscription-#{rand(999)}", 990) if rand < 0.05 && Sidekiq::ScheduledSet.new.size < 20
    dead = Sidekiq::DeadSet.new
    dead.first.delete if dead.size > 200
    sleep 1
  end
end

launcher = Sidekiq::Launcher.new(Sidekiq.options.merge(queues: QUEUES, concurrency: 3, timeout: 1, strict: true, tag: "shop"))
launcher.run
%w[TERM INT].each { |signal| trap(signal) { exit!(0) } }
sleep
