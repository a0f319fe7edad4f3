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

# The first attempt of a job fails now and then, the next one never does.
class FirstAttempt
  def call(worker, job, _queue)
    worker.unlucky = job["retry_count"].nil? && rand < 0.04
    yield
  end
end

Sidekiq.configure_server do |config|
  config.redis = {url: URL}
  config.server_middleware { |chain| chain.add FirstAttempt }
end
Sidekiq.logger.level = Logger::FATAL
Warning[:deprecated] = false

# Exit with the demo, which closes the pipe to standard input.
Thread.new do
  $stdin.read
  exit!(0)
end

class ReserveStock
  include Sidekiq::Worker
  sidekiq_options queue: "critical", retry: 4, backtrace: 15
  attr_accessor :unlucky

  def perform(order, items)
    sleep rand(0.05..0.4)
    raise IOError, "warehouse closed the connection for order #{order}" if unlucky
    items
  end
end

class PruneSessions
  include Sidekiq::Worker
  sidekiq_options queue: "low", retry: 2
  attr_accessor :unlucky

  def perform(shard)
    sleep rand(0.2..1.5)
    raise ArgumentError, "shard #{shard} is being moved" if unlucky
  end
end

def add_jobs(stock)
  stock.times { ReserveStock.perform_async(format("2026-%06d", rand(999_999)), rand(1..9)) } if Sidekiq::Queue.new("critical").size < 40
  PruneSessions.perform_async(rand(1..64)) if Sidekiq::Queue.new("low").size < 20
  ReserveStock.perform_in(rand(60..600), "subscription-#{rand(999)}", 1) if rand < 0.05 && Sidekiq::ScheduledSet.new.size < 20
end

launcher = Sidekiq::Launcher.new(Sidekiq.options.merge(queues: QUEUES, concurrency: 3, timeout: 1, strict: true, tag: "shop"))
launcher.run
%w[TERM INT].each { |signal| trap(signal) { exit!(0) } }
# The dashboard would report waiting jobs without a worker.
sleep 0.1 until Sidekiq::ProcessSet.new(false).size.positive?
add_jobs(1)
$stdout.puts "ready"
$stdout.flush
loop do
  sleep 1
  add_jobs(rand(0..3))
end
