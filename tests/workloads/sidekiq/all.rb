# Retries or deletes all dead jobs as Sidekiq Web does: ruby all.rb REDIS_URL retry|delete; answers the seconds it took.
require "sidekiq"
require "sidekiq/api"

url, verb = ARGV
Sidekiq.configure_client { |config| config.redis = {url: url} }
dead = Sidekiq::DeadSet.new
dead.size
started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
(verb == "retry") ? dead.retry_all : dead.clear
puts Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
exit(dead.size == 0)
